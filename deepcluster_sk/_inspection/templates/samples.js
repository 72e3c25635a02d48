
// ---- the table of samples, page by page

{
  const perPage = 50;
  const keys = [["confidence", confidenceOf], ["cluster", (i) => columns.cluster[i]]];
  if (columns.second) keys.push(["second", (i) => columns.second[i]]);
  if (columns.class) keys.push(["class", classOf]);
  const valueOf = { name: nameOf, ...Object.fromEntries(keys) };
  const withPictures = columns.tile.some((number) => number >= 0);
  const shownKeys = [...(withPictures ? ["tile"] : []), "name", "cluster", "confidence",
    ...["second", "class"].filter((key) => key in valueOf)];
  let order = Int32Array.from({ length: nSamples }, (_, i) => i);
  order.sort((a, b) => columns.confidence[a] - columns.confidence[b]);
  let found = order;
  let page = 0;

  const cellText = (key, i) => {
    const value = valueOf[key](i);
    if (key === "confidence") return percent(value);
    if (key === "cluster" || key === "second") return value < 0 ? "-" : clusterName(value);
    return String(value);
  };
  const sampleRow = (i) => {
    const row = document.createElement("tr");
    shownKeys.forEach((key) => {
      const cell = document.createElement(key === "name" ? "th" : "td");
      if (key === "name") cell.scope = "row";
      if (key === "name" || key === "class") cell.className = "text";
      if (key === "tile") cell.append(hasPicture(i) ? pictureButton(i) : "");
      else cell.textContent = cellText(key, i);
      row.append(cell);
    });
    return row;
  };
  const showPage = () => {
    const last = Math.min(found.length, (page + 1) * perPage);
    const shown = Array.from(found.slice(page * perPage, last), sampleRow);
    byId("sample-table").tBodies[0].replaceChildren(...shown);
    byId("page").textContent = found.length
      ? `${page * perPage + 1} to ${last} of ${found.length}` : "No sample fits";
    byId("previous").disabled = page === 0;
    byId("next").disabled = last >= found.length;
  };
  const findSamples = () => {
    const wanted = byId("find-sample").value.trim().toLowerCase();
    const cluster = byId("of-cluster").value;
    const most = byId("at-most").value === "" ? 1 : Number(byId("at-most").value) / 100;
    found = order.filter((i) => confidenceOf(i) <= most &&
      (cluster === "" || columns.cluster[i] === Number(cluster)) &&
      (wanted === "" || nameOf(i).toLowerCase().includes(wanted) ||
        (columns.class !== undefined && matches(classOf(i), wanted))));
    page = 0;
    showPage();
  };
  sortable(byId("sample-table"), (column, sign) => {
    const value = valueOf[shownKeys[column]];
    const values = Array.from({ length: nSamples }, (_, i) => value(i));
    order = order.slice().sort((a, b) => compare(values[a], values[b], sign));
    findSamples();
  });
  const clusterOptions = () => {
    const chosen = byId("of-cluster").value;
    const used = [...new Set(columns.cluster)].sort((a, b) => a - b);
    byId("of-cluster").replaceChildren(new Option("all", ""), ...used.map((cluster) =>
      new Option(cluster < 0 ? "none" : clusterName(cluster), cluster)));
    byId("of-cluster").value = chosen;
  };
  ["find-sample", "of-cluster", "at-most"].forEach((id) => byId(id).addEventListener("input", findSamples));
  byId("previous").addEventListener("click", () => { page -= 1; showPage(); });
  byId("next").addEventListener("click", () => { page += 1; showPage(); });
  document.addEventListener("click", (event) => {
    if (!event.target.matches("button.members")) return;
    byId("of-cluster").value = event.target.value;
    byId("find-sample").value = "";
    byId("at-most").value = 100;
    findSamples();
    byId("samples").scrollIntoView();
    byId("of-cluster").focus({ preventScroll: true });
  });
  document.addEventListener("names", () => { clusterOptions(); showPage(); });
  findSamples();
}
