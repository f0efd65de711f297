/** The store's style sheet, one per theme (`RETAIL_UI_THEME`): the themes differ in their accent colour. */

const accents: Readonly<Record<string, string>> = {
  default: "#2563eb",
  green: "#15803d",
  orange: "#c2410c",
  teal: "#0f766e",
};

export const themes = Object.keys(accents);

export function styleSheet(theme: string): string | undefined {
  const accent = accents[theme];
  if (!accent) return undefined;
  return `:root{--accent:${accent}}
*{box-sizing:border-box}body{margin:0;font:16px/1.5 system-ui,sans-serif;color:#1f2937;background:#f8fafc}
header{display:flex;justify-content:space-between;align-items:center;padding:1rem 2rem;background:#fff;border-bottom:3px solid var(--accent)}
.brand{font-weight:700;font-size:1.25rem;color:var(--accent);text-decoration:none}nav a{margin-left:1.5rem;color:inherit;text-decoration:none}
nav b{background:var(--accent);color:#fff;border-radius:1rem;padding:0 .5rem;font-size:.8rem}
main{max-width:64rem;margin:2rem auto;padding:0 1rem;min-height:60vh}footer{text-align:center;color:#64748b;font-size:.8rem;padding:2rem}
.hero{background:var(--accent);color:#fff;border-radius:1rem;padding:3rem 2rem;margin-bottom:2rem}.hero h1{margin:0 0 .5rem}.hero .button{background:#fff;color:var(--accent)}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:1.25rem}
.card{background:#fff;border-radius:.75rem;overflow:hidden;box-shadow:0 1px 3px #0002;padding-bottom:1rem}.card a{color:inherit;text-decoration:none}
.card h3{margin:.75rem 1rem 0;font-size:1rem}.card .price,.card form{margin:.25rem 1rem}svg{display:block;width:100%}
.price{color:var(--accent);font-weight:700}button,.button{display:inline-block;border:0;border-radius:.5rem;background:var(--accent);color:#fff;padding:.5rem 1rem;font:inherit;cursor:pointer;text-decoration:none}
button.quiet{background:none;color:#64748b;text-decoration:underline}.tag{display:inline-block;border:1px solid #cbd5e1;border-radius:1rem;padding:.1rem .75rem;margin-right:.5rem;color:inherit;text-decoration:none;background:#fff}
.tag.on{background:var(--accent);color:#fff;border-color:var(--accent)}.detail{display:grid;grid-template-columns:1fr 1.5fr;gap:2rem}
table{width:100%;border-collapse:collapse;background:#fff;margin-bottom:1.5rem}th,td{text-align:left;padding:.6rem 1rem;border-bottom:1px solid #e2e8f0}tfoot td{font-weight:700}
.stack{display:grid;gap:1rem;max-width:28rem}.stack label{display:grid;gap:.25rem}.stack input:not([type=radio]){font:inherit;padding:.4rem .6rem;border:1px solid #cbd5e1;border-radius:.4rem}.stack .choice{display:block}`;
}
