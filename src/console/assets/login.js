import { post } from "/assets/shell.js";

const form = document.getElementById("login");
const message = document.getElementById("message");

/** Returns the page to go to: one of this console, never another site. The address is whole, because a path such as
 * `//host`, which is what `/.//host` becomes, would be read as another site. */
function next() {
  const wanted = new URLSearchParams(location.search).get("next") ?? "/";
  const url = new URL(wanted, location.origin);
  return wanted.startsWith("/") && url.origin === location.origin ? url.href : "/";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  message.textContent = "";
  const data = new FormData(form);
  try {
    await post("/api/login", { name: data.get("name"), secret: data.get("secret") });
    location.assign(next());
  } catch (error) {
    message.textContent = error.message;
    form.elements.secret.value = "";
    form.elements.secret.focus();
  }
});

document.body.dataset.loaded = "true";
