/**
 * The matrix as one page: no file beside it, nothing is loaded from anywhere. The data is in the page as JSON, the script
 * (html-script.ts) draws from it what the reader asks for, so a hundred workloads are as quick as ten.
 */

import { PAGE_SCRIPT } from './html-script.ts';
import { PAGE_STYLE } from './html-style.ts';
import { jsonPieces } from './json.ts';
import type { ReachReport } from './report.ts';

/** The page, piece by piece: a matrix may be longer than a string. */
export function* htmlPieces(report: ReachReport, title: string): Generator<string> {
  yield `<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n` +
    `<meta name="viewport" content="width=device-width, initial-scale=1">\n` +
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">\n` +
    `<title>${escapeText(title)}</title>\n<style>${PAGE_STYLE}</style>\n</head>\n<body>\n${BODY}` +
    `<script type="application/json" id="data">`;
  // Within a script element only `</` and `<!--` mean anything; in JSON `<` occurs in strings alone.
  for (const piece of jsonPieces(report)) yield piece.replaceAll('<', '\\u003c');
  yield `</script>\n<script>${PAGE_SCRIPT}</script>\n</body>\n</html>\n`;
}

function escapeText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

const BODY = `<header>
<h1>Who reaches whom</h1>
<p id="about"></p>
<form id="filters" autocomplete="off">
<label>From <input id="from" type="search" placeholder="name or namespace"></label>
<label>To <input id="to" type="search" placeholder="name or namespace"></label>
<label>Namespace <select id="namespace"></select></label>
<label>Port <input id="port" type="search" placeholder="80, 53/udp, icmp" size="12"></label>
<label>Show <select id="show">
<option value="all">everything</option>
<option value="open">pairs that reach something</option>
<option value="closed">pairs that reach nothing</option>
<option value="mixed">pairs that reach a part</option>
<option value="denied">denied by a policy</option>
</select></label>
<label>Sort <select id="sort">
<option value="name">by namespace and name</option>
<option value="out">by how much is reached</option>
</select></label>
<label class="check"><input id="services" type="checkbox" checked> Services</label>
<label class="check"><input id="pods" type="checkbox" checked> pods</label>
<label class="check"><input id="outer" type="checkbox" checked> nodes, outside</label>
</form>
<p id="legend"><span class="k all"></span> all ports <span class="k some"></span> some ports
<span class="k part"></span> not all pods or backends alike <span class="k none"></span> nothing
<span class="k deny"></span> nothing, by a policy <span class="k self"></span> nobody else to try</p>
<p id="note" role="status"></p>
</header>
<main><div id="scroll"><table id="matrix"></table></div>
<aside id="detail" aria-live="polite"><p class="hint">Point at a cell, or move with the arrow keys, to see its ports and who decides. A click keeps it.</p></aside></main>
`;
