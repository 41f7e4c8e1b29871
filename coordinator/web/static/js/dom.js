// Small helpers for elements. Nothing here ever parses HTML: all that comes from devices is text.

export const at = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Rows by key: those that stay keep their elements, and with them the focus.
export function fillRows(body, keys, make, update) {
  const known = new Map([...body.children].map((row) => [row.dataset.key, row]));
  keys.forEach((key, place) => {
    let row = known.get(key);
    if (row === undefined) {
      row = make(key);
      row.dataset.key = key;
    }
    known.delete(key);
    update(row, key);
    if (body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null);
  });
  for (const row of known.values()) row.remove();
}

export function fillTiles(list, tiles) {
  fillRows(
    list,
    tiles.map(([name]) => name),
    () => element("div", {}, element("dt"), element("dd")),
    (row, key) => {
      const [, value] = tiles.find(([name]) => name === key);
      setText(row.children[0], key);
      setText(row.children[1], value);
    },
  );
}

export function cells(count, first) {
  const row = element("tr");
  for (let place = 0; place < count; place += 1) {
    row.append(place === 0 && first ? element("th", { scope: "row" }) : element("td"));
  }
  return row;
}
