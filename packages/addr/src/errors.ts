/** Thrown by every parse function of this room. */
export class AddressError extends Error {
  override readonly name = "AddressError";
  readonly text: string;

  constructor(what: string, text: string) {
    super(`Cannot read ${JSON.stringify(text)} as ${what}`);
    this.text = text;
  }
}
