
// ---- the table of clusters
const clusterTable = byId("cluster-table");
sortable(clusterTable, (column, sign) => {
  const value = (row) => {
    const cell = row.cells[column];
    const field = cell.querySelector("input");
    if (field) return field.value;
    if (cell.dataset.value === undefined) return cell.textContent;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const body = clusterTable.tBodies[0];
  const rows = [...body.rows].sort((a, b) => compare(value(a), value(b), sign));
  body.append(...rows);
});


// ---- the gallery
const galleryList = byId("gallery-list");
const clusters = [...galleryList.children];
byId("order-clusters").addEventListener("change", (event) => {
  const sign = event.target.value.startsWith("-") ? -1 : 1;
  const key = event.target.value.replace("-", "");
  const value = (one) => (one.dataset[key] === "" ? null : Number(one.dataset[key]));
  galleryList.append(...clusters.sort((a, b) => compare(value(a), value(b), sign)));
});
const titles = new Map(clusters.map((one) => [
  one, [...one.querySelectorAll(".tiles .name")].map((name) => name.title)]));
function findClusters() {
  const wanted = byId("find-cluster").value.trim().toLowerCase();
  const withSample = new Set();
  for (let i = 0; wanted !== "" && i < nSamples; i += 1) {
    if (matches(nameOf(i), wanted)) withSample.add(columns.cluster[i]);
  }
  let shown = 0;
  clusters.forEach((one) => {
    const { cluster, majority } = one.dataset;
    one.hidden = wanted !== "" && !withSample.has(Number(cluster)) && ![
      `cluster ${cluster}`, cluster, majority, names.get(Number(cluster)) || "", ...titles.get(one),
    ].some((text) => matches(text, wanted));
    shown += !one.hidden;
  });
  byId("gallery-count").textContent = `${shown} of ${clusters.length} clusters`;
}
byId("find-cluster").addEventListener("input", findClusters);
findClusters();
const openAll = (open) => clusters.forEach((one) => { if (!one.hidden) one.open = open; });
byId("open-all").addEventListener("click", () => openAll(true));
byId("close-all").addEventListener("click", () => openAll(false));
