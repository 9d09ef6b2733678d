"""How the page looks, and the little that it does in the browser by itself."""

CSS = """
.gradio-container { max-width: 1200px !important; margin: 0 auto; }
.desk > .column { min-width: 0 !important; }
@media (max-width: 760px) {
  .desk { flex-direction: column; }
  .desk > .column { width: 100%; }
  #photo, #result { height: 300px !important; }
}
#photo img { cursor: crosshair; }
#hints button { align-self: stretch; }
#examples .grid-wrap { height: auto; max-height: none; min-height: 0; }
#examples .grid-container { grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 0.4rem; }
#examples .thumbnail-lg { width: 100%; }
#help p, #note p { max-width: 46rem; }
#note { opacity: 0.75; }
#message {
  padding: 0.6rem 0.9rem;
  border: 1px solid #d97706;
  border-radius: var(--radius-lg);
  background: #fef3c7;
  color: #78350f;
}
#message p { color: inherit; }
#hint-list ul {
  display: flex;
  flex-wrap: wrap;
  gap: 0.35rem;
  margin: 0;
  padding: 0;
  list-style: none;
}
#hint-list li {
  display: flex;
  align-items: center;
  gap: 0.4rem;
  padding: 0.1rem 0.6rem 0.1rem 0.2rem;
  border: 1px solid var(--border-color-primary);
  border-radius: 1rem;
  font-size: var(--text-sm);
}
#hint-list li span { width: 1.1rem; height: 1.1rem; border-radius: 50%; }
#hint-list p { margin: 0; font-size: var(--text-sm); opacity: 0.75; }
"""

SCRIPT = """
() => {
  // A picture is pasted anywhere on the page as it would be dropped on the photo.
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])].filter((file) =>
      file.type.startsWith("image/")
    );
    const input = document.querySelector("#photo input[type=file]");
    if (!files.length || !input) return;
    event.preventDefault();
    const transfer = new DataTransfer();
    transfer.items.add(files[0]);
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
"""

SHOW_PHOTO = "() => document.querySelector('#photo').scrollIntoView({block: 'nearest'})"
