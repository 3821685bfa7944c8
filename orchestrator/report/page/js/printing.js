// Paper shows what a click would open: closed details, and more lines than a page of the screen.

const PRINTED = 1000;
let opened = [];

function listenPrinting() {
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("main details:not([open])")];
    for (const each of opened) each.open = true;
    if (by("data")) show({ limit: PRINTED, isPrinted: true });
  });
  addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
    if (by("data")) show();
  });
}
