/**
 * LuaJIT's own modules, as TypeScript sees them. `/** @noSelf *​/` makes the compiler write `ffi.new(…)` and not `ffi:new(…)`.
 */
declare module "ffi" {
  /** A C value or pointer. */
  export interface CData {
    readonly __cdata: unique symbol;
  }
  /** A byte array (`char[n]` or `uint8_t[n]`): reads give numbers. */
  export interface Bytes extends CData {
    [index: number]: number;
  }

  export function cdef(this: void, declarations: string): void;
  export function cast<T = CData>(this: void, type: string, value: unknown): T;
  export function string(this: void, value: CData, length?: number): string;
  export function copy(this: void, target: CData, source: unknown, length?: number): void;
  export function fill(this: void, target: CData, length: number, value?: number): void;
  export function sizeof(this: void, value: unknown): number;
  export function errno(this: void, value?: number): number;
  export const C: unknown;
  export const arch: "x64" | "arm64";
}

declare module "jit" {
  export function off(this: void): void;
  export const arch: string;
}

/** The program's arguments: Lua's `arg[1]` is `arg[0]` here. */
declare const arg: string[];
