// A list of many rows, of which only those in view are elements. All rows have the same height.

const ROW_HEIGHT = 62; // also in style.css
const BEYOND = 6; // rows above and below the view
const PRINTED = 40; // rows on paper

class VirtualList {
  // `content(row)` returns the nodes of a row; `select(row)` is called when another one is selected.
  constructor(name, content, select) {
    this.content = content;
    this.select = select;
    this.items = [];
    this.active = -1;
    this.first = -1;
    this.last = -1;
    this.holder = h("div", { role: "none", class: "holder" });
    this.element = h("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": name, onscroll: () => this.draw(), onkeydown: (event) => this.key(event) }, this.holder);
    new ResizeObserver(() => this.draw(true)).observe(this.element);
  }

  // Show other rows; the selection moves to the first of them.
  show(items) {
    this.items = items;
    this.holder.style.height = `${items.length * ROW_HEIGHT}px`;
    this.element.scrollTop = 0;
    this.activate(items.length ? 0 : -1, false);
  }

  activate(place, scroll = true) {
    this.active = place;
    if (scroll && place >= 0) {
      const [top, view] = [place * ROW_HEIGHT, this.element.clientHeight];
      if (top < this.element.scrollTop) this.element.scrollTop = top;
      else if (top + ROW_HEIGHT > this.element.scrollTop + view) this.element.scrollTop = top + ROW_HEIGHT - view;
    }
    this.draw(true);
    this.select(place >= 0 ? this.items[place] : null);
  }

  draw(again = false) {
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW_HEIGHT) - BEYOND);
    const last = Math.min(this.items.length, Math.ceil((this.element.scrollTop + this.element.clientHeight) / ROW_HEIGHT) + BEYOND);
    if (again || first !== this.first || last !== this.last) this.range(first, last);
  }

  range(first, last) {
    [this.first, this.last] = [first, last];
    const options = [];
    for (let place = first; place < last; place += 1) {
      options.push(h("div", {
        role: "option", id: `option-${place}`, class: "option", "aria-selected": String(place === this.active),
        "aria-setsize": this.items.length, "aria-posinset": place + 1, style: { top: `${place * ROW_HEIGHT}px` },
        onclick: () => this.activate(place),
      }, this.content(this.items[place])));
    }
    this.holder.replaceChildren(...options);
    if (this.active >= first && this.active < last) this.element.setAttribute("aria-activedescendant", `option-${this.active}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW_HEIGHT) - 1);
    const end = this.items.length - 1;
    const to = { ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page, PageUp: this.active - page, Home: 0, End: end }[event.key];
    if (to === undefined || end < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.activate(Math.max(0, Math.min(end, to)));
  }

  print(starts) {
    if (starts) this.range(0, Math.min(PRINTED, this.items.length));
    else this.draw(true);
  }
}
