// The controls of a NetworkView: pointer, wheel and keys move the camera; a bar under the picture moves the section and
// shows the point under the cursor in file units.
class NetworkControls {
  static AXES = ["x", "y", "z"];
  static ROTATION = 0.12;             // radians of an arrow key
  static ZOOM = 1.15;                 // factor of a key
  static NEAREST = 0.15;              // of the eye to the center it looks at, and
  static FARTHEST = 8;                // in units of the camera
  static REACH = 0.92;                // of the section's slider to either side, domain

  constructor(view) {
    this.view = view;
    this.pointers = new Map();
    const {scale} = view.payload;
    // Digits after the point that show a ten-thousandth of the part.
    this.digits = Math.min(12, Math.max(0, Math.ceil(4 - Math.log10(0.9 / scale))));
    this.prepareCanvas();
    this.addBar();
  }

  // A length or a coordinate of the file as text.
  text(value) { return (Object.is(value, -0) ? 0 : value).toFixed(this.digits).replace("-", "\u2212"); }

  prepareCanvas() {
    const canvas = this.view.canvas;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label",
      "The part as the network holds it. Arrow keys rotate it, plus and minus zoom, 0 goes back.");
    const actions = {
      pointerdown: event => this.press(event), pointermove: event => this.move(event),
      pointerup: event => this.release(event), pointercancel: event => this.pointers.delete(event.pointerId),
      pointerleave: event => { if (event.pointerType === "mouse") this.point(null); },
      contextmenu: event => event.preventDefault(), keydown: event => this.key(event),
    };
    for (const [name, action] of Object.entries(actions)) canvas.addEventListener(name, action);
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      this.zoom(Math.exp(0.0012 * event.deltaY * (event.deltaMode === 1 ? 20 : 1)));
    }, {passive: false});
  }

  // --- the camera

  // Change the camera and say so to the other views.
  moveCamera(change) {
    const camera = this.view.camera;
    change(camera);
    this.view.setCamera(camera);
    this.showLines();
    this.view.onCamera(camera);
  }

  // Rotate the eye about its center, about z and towards z; radians.
  rotate(around, towards) {
    this.moveCamera(({eye, center, up}) => {
      const x = eye.x - center.x, y = eye.y - center.y, z = eye.z - center.z, away = Math.hypot(x, y, z);
      const longitude = Math.atan2(y, x) - around;
      const latitude = Math.max(-1.56, Math.min(1.56, Math.asin(z / away) + towards));
      eye.x = center.x + away * Math.cos(latitude) * Math.cos(longitude);
      eye.y = center.y + away * Math.cos(latitude) * Math.sin(longitude);
      eye.z = center.z + away * Math.sin(latitude);
      Object.assign(up, {x: 0, y: 0, z: 1});
    });
  }

  // The eye's way to its center, times a factor.
  zoom(factor) {
    this.moveCamera(({eye, center}) => {
      const away = Math.hypot(eye.x - center.x, eye.y - center.y, eye.z - center.z);
      const wanted = Math.max(NetworkControls.NEAREST, Math.min(NetworkControls.FARTHEST, away * factor));
      for (const axis of NetworkControls.AXES) eye[axis] = center[axis] + (eye[axis] - center[axis]) * wanted / away;
    });
  }

  // Move eye and center so that the part follows the hand; pixels.
  shift(rightward, downward) {
    const {right, up} = this.view.vectors();
    this.moveCamera(({eye, center}) => {
      const away = Math.hypot(eye.x - center.x, eye.y - center.y, eye.z - center.z);
      const pixel = 2 * Math.tan(NetworkView.FIELD / 2) * away / this.view.canvas.clientHeight;
      NetworkControls.AXES.forEach((axis, k) => {
        const way = pixel * (downward * up[k] - rightward * right[k]);
        eye[axis] += way;
        center[axis] += way;
      });
    });
  }

  key(event) {
    const {ROTATION, ZOOM} = NetworkControls;
    const actions = {
      ArrowLeft: () => this.rotate(-ROTATION, 0), ArrowRight: () => this.rotate(ROTATION, 0),
      ArrowUp: () => this.rotate(0, ROTATION), ArrowDown: () => this.rotate(0, -ROTATION),
      "+": () => this.zoom(1 / ZOOM), "=": () => this.zoom(1 / ZOOM), "-": () => this.zoom(ZOOM),
      0: () => this.moveCamera(camera => Object.assign(camera, NetworkView.start())),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  }

  // --- pointers: one rotates, or shifts with the right button or the shift key; two zoom and rotate. The style
  // touch-action: pan-y leaves vertical swipes of one finger to the page, which then cancels the pointer.

  press(event) {
    this.pointers.set(event.pointerId, {x: event.clientX, y: event.clientY, moved: 0});
    try { this.view.canvas.setPointerCapture(event.pointerId); } catch { /* the finger has gone already */ }
  }

  move(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) return this.point(event);
    const others = [...this.pointers.values()].filter(other => other !== pointer);
    const right = event.clientX - pointer.x, down = event.clientY - pointer.y;
    const radians = Math.PI / this.view.canvas.clientHeight;
    if (others.length === 1) {
      const width = ({x, y}) => Math.max(8, Math.hypot(x - others[0].x, y - others[0].y));
      this.zoom(width(pointer) / width({x: event.clientX, y: event.clientY}));
      this.rotate(radians * right / 2, radians * down / 2);
    } else if (event.shiftKey || event.buttons & 2) this.shift(right, down);
    else this.rotate(radians * right, radians * down);
    Object.assign(pointer, {x: event.clientX, y: event.clientY, moved: pointer.moved + Math.abs(right) + Math.abs(down)});
  }

  release(event) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (pointer && pointer.moved < 6) this.point(event);
  }

  // --- the bar

  addBar() {
    const bar = this.bar = document.createElement("div");
    bar.className = "network-bar";
    bar.innerHTML = `
<label>Section <select aria-label="Axis of the section"><option value="-1">none</option>
<option value="0">x</option><option value="1">y</option><option value="2">z</option></select></label>
<span class="network-section" hidden><input type="range" min="${-NetworkControls.REACH}" max="${NetworkControls.REACH}"
 step="0.002" value="0" aria-label="Place of the section"><output></output>
<button type="button" aria-label="flip the side that is cut away">flip</button>
<span class="network-lines"></span></span>
<output class="network-point"></output><span class="network-note"></span>`;
    [this.axis, this.slider, this.flip] = ["select", "input", "button"].map(name => bar.querySelector(name));
    [this.sectionBar, this.sectionText, this.lines, this.readout] =
      [".network-section", ".network-section output", ".network-lines", ".network-point"].map(name => bar.querySelector(name));
    const {nodes} = this.view.payload;
    if (nodes) bar.querySelector(".network-note").textContent =
      `Drawn from ${nodes}\u00b3 stored distances: the network is too large to evaluate in a browser.`;
    this.axis.addEventListener("change", () => this.chooseAxis());
    this.slider.addEventListener("input", () => this.moveSection());
    this.flip.addEventListener("click", () => {
      this.view.setSection({side: -this.view.section.side});
    });
    this.view.element.append(bar);
    this.rest();
  }

  // The section of another axis, through the middle; cut away is the side of the eye.
  chooseAxis() {
    const axis = Number(this.axis.value);
    this.slider.value = 0;
    this.sectionBar.hidden = axis < 0;
    const {eye, center} = this.view.camera, name = NetworkControls.AXES[axis];
    this.view.setSection({axis, side: axis >= 0 && eye[name] < center[name] ? -1 : 1});
    this.moveSection();
  }

  moveSection() {
    const {axis} = this.view.section, {center, scale} = this.view.payload, place = Number(this.slider.value);
    if (axis >= 0) {
      const text = `${NetworkControls.AXES[axis]} = ${this.text(center[axis] + place / scale)}`;
      this.sectionText.textContent = text;
      this.slider.setAttribute("aria-valuetext", text);
    }
    this.view.setSection({place});
    this.showLines();
  }

  showLines() {
    const step = this.view.lineStep / this.view.payload.scale;
    this.lines.textContent = `a line every ${Number(step.toPrecision(1))}`;
  }

  rest() {
    this.readout.textContent = "Point at the part for a place and its distance (file units).";
  }

  // Show the point under the cursor, at most once a frame of the screen; null: the cursor has left.
  point(event) {
    this.pointed = event && {x: event.offsetX, y: event.offsetY};
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      const picked = this.pointed && this.view.pick(this.pointed.x, this.pointed.y);
      if (!picked) return this.rest();
      const places = picked.place.map((value, axis) => `${NetworkControls.AXES[axis]} ${this.text(value)}`);
      this.readout.textContent = `${places.join("  ")}   distance ${this.text(picked.distance)}`;
    });
  }

  dispose() {
    cancelAnimationFrame(this.waiting);
    this.bar.remove();
  }
}
