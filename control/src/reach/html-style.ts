/** The look of the page: light and dark, colours that differ in lightness as well, so that they are told apart without hue. */

export const PAGE_STYLE = `
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#5a6472;--line:#d9dee5;--head:#f4f6f8;--accent:#0b5cad;
--all:#1a7f4b;--some:#8fd3ae;--part:#f2c14e;--none:#e9ecf0;--deny:#d9544d;--yes:#126b3d;--no:#b3261e}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e6e9ee;--dim:#98a2b0;--line:#2d343d;--head:#1c2127;--accent:#6cb2ff;
--all:#3fb978;--some:#2a6b49;--part:#c9952b;--none:#242a31;--deny:#b23c37;--yes:#5fd394;--no:#ff8a80}}
*{box-sizing:border-box}
html,body{height:100%;margin:0}
body{background:var(--bg);color:var(--fg);font:14px/1.45 system-ui,sans-serif;display:flex;flex-direction:column}
header{padding:12px 16px 4px;border-bottom:1px solid var(--line);flex:none}
h1{font-size:18px;margin:0 0 2px}
p{margin:2px 0}
#about,#note,.hint{color:var(--dim)}
#note:empty{display:none}
#filters{display:flex;flex-wrap:wrap;gap:6px 12px;margin:8px 0;align-items:center}
#filters label{color:var(--dim);display:flex;gap:5px;align-items:center}
input,select{font:inherit;color:var(--fg);background:var(--bg);border:1px solid var(--line);border-radius:5px;padding:3px 6px;max-width:190px}
input:focus-visible,select:focus-visible,td:focus-visible,th:focus-visible{outline:2px solid var(--accent);outline-offset:-1px}
#legend{color:var(--dim);font-size:12px}
.k{display:inline-block;width:12px;height:12px;border-radius:3px;vertical-align:-1px;margin:0 2px 0 10px}
.k:first-child{margin-left:0}
main{flex:1;min-height:0;display:flex}
#scroll{flex:1;overflow:auto;min-width:0}
#detail{flex:none;width:min(420px,36vw);overflow:auto;border-left:1px solid var(--line);padding:12px 16px}
#detail h2{font-size:15px;margin:0 0 4px;overflow-wrap:anywhere}
#detail h3{font-size:13px;margin:12px 0 2px;color:var(--dim);font-weight:600}
#detail ul{margin:2px 0;padding-left:18px}
#detail li{overflow-wrap:anywhere}
#detail table{border-collapse:collapse;width:100%;margin-top:8px}
#detail td,#detail th{border-bottom:1px solid var(--line);padding:3px 6px 3px 0;vertical-align:top;text-align:left;font-weight:400}
#detail th{color:var(--dim)}
.ok{color:var(--yes)}.no{color:var(--no)}
#detail p{margin-top:10px}
@media(max-width:760px){main{flex-direction:column}#detail{width:auto;border-left:0;border-top:1px solid var(--line);max-height:40vh}}
#matrix{border-collapse:separate;border-spacing:0;font-size:12px}
#matrix th{background:var(--bg);font-weight:400;white-space:nowrap}
#matrix thead th{position:sticky;top:0;z-index:2;height:170px;vertical-align:bottom;padding:0;border-bottom:1px solid var(--line)}
#matrix thead th>div{width:22px;position:relative;height:165px}
#matrix thead th span{position:absolute;bottom:2px;left:18px;transform-origin:0 100%;transform:rotate(-90deg);max-width:160px;overflow:hidden;text-overflow:ellipsis}
#matrix tbody th{position:sticky;left:0;z-index:1;text-align:right;padding:0 8px 0 12px;border-right:1px solid var(--line);max-width:300px;overflow:hidden;text-overflow:ellipsis;height:22px}
#matrix thead th.corner{left:0;z-index:3;text-align:right;padding:0 8px 4px;border-right:1px solid var(--line);color:var(--dim)}
#matrix tr.band th,#matrix th.band{border-left:2px solid var(--line)}
#matrix tr.space th,#matrix tr.space td{border-top:2px solid var(--line)}
#matrix td{width:22px;min-width:22px;height:22px;padding:1px;cursor:pointer}
#matrix td.band{border-left:2px solid var(--line)}
#matrix td i{display:block;width:100%;height:100%;border-radius:3px;background:var(--none)}
.k.all,td.all i{background:var(--all)!important}.k.some,td.some i{background:var(--some)!important}
.k.part,td.part i{background:var(--part)!important}.k.none,td.none i{background:var(--none)!important}
.k.deny{background:var(--none);box-shadow:inset 0 0 0 2px var(--deny)}td.deny i{box-shadow:inset 0 0 0 2px var(--deny)}
.k.self,td.self i{background:repeating-linear-gradient(45deg,var(--line) 0 2px,transparent 2px 5px)!important}
td.off i{background:transparent!important}
#matrix .hot{background:var(--head);color:var(--accent)}
td.kept i{outline:2px solid var(--accent);outline-offset:1px}
`;
