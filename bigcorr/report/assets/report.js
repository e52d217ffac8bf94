"use strict";
// Search and sorting of the tables of pairs. Without scripts the first and last rows still stand.
for (const block of document.querySelectorAll(".pairs")) {
  const data = JSON.parse(block.querySelector("script").textContent);
  const body = block.querySelector("tbody");
  const controls = block.querySelector(".controls");
  const search = controls.querySelector("input[type=search]");
  const hideFew = controls.querySelector("input[type=checkbox]");
  const said = controls.querySelector("output");
  const initial = body.innerHTML;
  const shown = 200;
  const keys = data.columns;
  const at = Object.fromEntries(keys.map((key, i) => [key, i]));
  const names = data.names;
  let sortKey = "rank", sign = 1;

  const number = (x, digits) => x === null ? "–" : x.toFixed(digits).replace("-", "−");
  const small = (x) => x === null ? "–" : x >= 0.001 ? x.toFixed(3) : x < 1e-300 ? "&lt; 1e−300" : x.toExponential(1).replace("-", "−");
  const count = (x) => x === null ? "–" : x.toLocaleString("en-US", { maximumFractionDigits: 1 });
  const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
  const isFew = (row) => data.few > 0 && Math.min(row[at.count_a], row[at.count_b]) < data.few;

  function render(row) {
    const few = isFew(row);
    const width = row[at.value] === null ? 0 : Math.min(100, 100 * Math.abs(row[at.value]) / data.most);
    const cells = [
      `<td>${row[at.rank].toLocaleString("en-US")}</td>`,
      `<td class="name">${escape(names[row[at.a]])}</td>`,
      `<td class="name">${escape(names[row[at.b]])}${few ? '<span class="tag">few counts</span>' : ""}</td>`,
      `<td class="value"><i style="width:${width.toFixed(1)}%"></i><span>${number(row[at.value], 4)}</span></td>`,
    ];
    if (data.significance) {
      cells.push(`<td>${number(row[at.z], 2)}</td><td>${small(row[at.p_value])}</td><td>${small(row[at.q_value])}</td>`);
    }
    cells.push(`<td>${count(row[at.count_a])}</td><td>${count(row[at.count_b])}</td>`);
    return `<tr${few ? ' class="few"' : ""}>${cells.join("")}</tr>`;
  }

  function compare(r, s) {
    let x = r[at[sortKey]], y = s[at[sortKey]];
    if (sortKey === "a" || sortKey === "b") { x = names[x]; y = names[y]; }
    if (x === y) return r[at.rank] - s[at.rank];
    if (x === null) return 1;
    if (y === null) return -1;
    return x < y ? -sign : sign;
  }

  function update() {
    const words = search.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    for (const th of block.querySelectorAll("th[data-key]")) {
      if (th.dataset.key === sortKey) th.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    }
    if (!words.length && !hideFew.checked && sortKey === "rank" && sign > 0) {
      body.innerHTML = initial;
      said.textContent = "";
      return;
    }
    const lower = names.map((name) => name.toLowerCase());
    const found = data.rows.filter((row) =>
      !(hideFew.checked && isFew(row)) &&
      words.every((word) => lower[row[at.a]].includes(word) || lower[row[at.b]].includes(word)));
    found.sort(compare);
    body.innerHTML = found.slice(0, shown).map(render).join("");
    said.textContent = `${found.length.toLocaleString("en-US")} pairs` + (found.length > shown ? `, the first ${shown} shown` : "");
  }

  controls.hidden = false;
  hideFew.parentElement.hidden = !(data.few > 0);
  search.addEventListener("input", update);
  hideFew.addEventListener("change", update);
  for (const th of block.querySelectorAll("th[data-key]")) {
    th.tabIndex = 0;
    const choose = () => {
      const key = th.dataset.key;
      const first = ["rank", "a", "b", "p_value", "q_value"].includes(key) ? 1 : -1;
      sign = key === sortKey ? -sign : first;
      sortKey = key;
      update();
    };
    th.addEventListener("click", choose);
    th.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(); });
  }
}
