/** The frame of the page: who is signed in, which views there are, what the service has just said. */

import { T } from "../texts.js";
import { ROOT, key } from "../lib/api.js";
import { textField } from "../lib/fields.js";
import { ICONS } from "../lib/icons.js";
import { PANES, go, onPlace, place } from "../lib/place.js";
import { FINAL, dismiss, signIn, signOut, store, watch } from "../lib/store.js";
import { selection } from "../gallery/selection.js";
import { View, h, hint, iconButton, smallButton } from "../lib/view.js";
import { dropZone } from "./drop.js";
import { keyHelp } from "./keys.js";
import { selectionBar } from "./chosen.js";

/** Reached from this machine only. */
const LOCAL = /^(127\.|localhost|\[::1)/;

class AppFrame extends View {
  help = false;
  drop = dropZone(() => this.refresh());

  start() {
    this.redrawOn(watch, onPlace, selection.watch);
    this.hear(document, "keydown", (event) => this.pressed(event));
    this.hear(document, "click", (event) => closeMenus(event.target));
    for (const event of ["dragover", "dragleave", "drop", "paste"]) this.hear(document, event, (given) => this.drop.heard(given));
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const typing = event.target instanceof HTMLElement && event.target.matches("input, select, textarea");
    if (event.key === "Escape") {
      closeMenus(null);
      if (!event.defaultPrevented && !document.querySelector("dialog[open]")) selection.clear();
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "?") this.showHelp(!this.help);
    else if (event.key === "n") {
      event.preventDefault();
      go({}, { pane: "order" });
      requestAnimationFrame(() => document.getElementById("order-prompt")?.focus());
    }
  }

  /** @param {boolean} help */
  showHelp(help) {
    this.help = help;
    this.draw();
  }

  view() {
    if (store.session === "signed out") return [signInForm(), notices()];
    const { pane, words } = place();
    return [
      this.header(pane, words),
      store.connection === "lost" && h("p", { class: "banner", role: "status", key: "lost" }, T.connectionLost),
      h("main", { key: "main", "data-pane": pane, class: store.session === "in" ? "" : "asking" },
        h("order-form", { key: "order", class: "pane-order" }),
        h("div", { class: "bench", key: "bench", "data-scroller": "" },
          h("job-queue", { class: "pane-queue", key: "queue" }),
          store.session === "in" && h("picture-gallery", { class: "pane-pictures", key: "gallery", id: "pictures" }),
        ),
      ),
      h("picture-viewer", { key: "viewer" }),
      above(words.get("do")),
      selectionBar(),
      this.help && keyHelp(() => this.showHelp(false)),
      this.drop.view(),
      notices(),
    ];
  }

  /** @param {string} pane @param {URLSearchParams} words */
  header(pane, words) {
    const live = [...store.jobs.values()].filter((job) => !FINAL.has(job.status)).length;
    const { dashboard } = store.catalog?.capabilities ?? {};
    document.title = live ? `(${live}) ${T.name}` : T.name;
    return h("header", { class: "app", key: "header" },
      h("h1", { class: "mark" }, h("span", { class: "logo", "aria-hidden": "true" }), T.name),
      h("nav", { "aria-label": T.paneLabel }, PANES.map((one) => h("a", {
        key: one, href: `#/${one}?${words}`, "aria-current": pane === one ? "page" : undefined,
      }, T.panes[one], one === "queue" && live > 0 && h("span", { class: "count" }, live > 999 ? "999+" : live)))),
      h("p", { class: `connection ${store.connection}`, role: "status" }, h("span", { class: "dot", "aria-hidden": "true" }), h("span", { class: "text" }, T.connection[store.connection])),
      dashboard && (!LOCAL.test(dashboard) || LOCAL.test(location.host)) && h("a", { class: "quiet docs", key: "ray", href: `http://${dashboard}`, target: "_blank", rel: "noreferrer" }, T.dashboard),
      h("a", { class: "quiet docs", href: `${ROOT}/docs`, key: "docs" }, T.docs),
      iconButton(T.help, ICONS.help, () => this.showHelp(true)),
      key.get() && iconButton(T.signOut, ICONS.out, () => signOut(), { key: "out" }),
    );
  }
}

/** What is done above the page. @param {string | null} what */
function above(what) {
  const can = ["batch", "mask"].includes(what ?? "") || (selection.size > 0 && ["compare", "finish", "sheet"].includes(what ?? ""));
  return can && store.session === "in" && h(`above-${what}`, { key: what });
}

/** @param {Node | null} but The menu around it stays. */
function closeMenus(but) {
  for (const menu of /** @type {NodeListOf<HTMLDetailsElement>} */ (document.querySelectorAll("details.filter-menu[open]"))) {
    if (!menu.contains(but)) menu.open = false;
  }
}

function signInForm() {
  return h("main", { class: "sign-in", key: "sign-in" },
    h("form", {
      onsubmit: (event) => {
        event.preventDefault();
        void signIn(event.target.elements.key.value);
      },
    },
      h("span", { class: "logo", "aria-hidden": "true" }),
      h("h1", null, T.signIn.title),
      hint(T.signIn.why),
      textField({ id: "key", label: T.signIn.label }, {
        name: "key", type: "password", autocomplete: "current-password", required: true, ref: (/** @type {HTMLElement} */ node) => requestAnimationFrame(() => node.focus()),
      }),
      h("button", { class: "main", type: "submit" }, T.signIn.button),
    ),
  );
}

function notices() {
  return h("div", { class: "notices", role: "status", key: "notices" }, store.notices.map((notice) => h("div", { key: notice.id, class: `notice ${notice.kind}` },
    h("p", null, notice.text),
    notice.action && h("button", { class: "quiet", onclick: () => (notice.action?.act(), dismiss(notice.id)) }, notice.action.text),
    smallButton(T.dismiss, ICONS.close, () => dismiss(notice.id)),
  )));
}

customElements.define("app-frame", AppFrame);
