// The picture of a network, traced live by WebGL 2: shaders and textures of `network_view.py` in, a canvas out.
//
//   const view = new NetworkView(element, payload, {frame, onCamera});
//   await view.ready;             // false if the shaders could not be built; view.fault says why
//
// payload: what `network_view` in Python returns. frame: {center: [x, y, z], radius} in file units, the sphere that a
// camera is relative to; left out: the sphere that holds the part. A camera is plotly's: {eye, center, up}, each {x, y, z},
// in units of twice the frame's radius, from the frame's center; up is z unless a camera says otherwise. onCamera(camera)
// is called when the reader moves the camera, not for `setCamera`. The constructor throws without WebGL 2.
//
// Nothing is computed while the view rests or is off screen. A picture is drawn coarsely first, then finer, band by band:
// one band a frame, so high that it takes about BAND_TIME. A fence shows when the GPU has drawn it, so that a slow GPU
// (or a CPU in its place) does not block the page.
class NetworkView {
  static FIELD = Math.PI / 4;         // vertical angle of the picture, that of plotly's scenes
  static EYE = {x: 0.78, y: -1.08, z: 0.69};   // where that of the other views stands at first (`views.py`)
  static MOST_RATIO = 2;              // device pixels of a CSS pixel, at most
  static FIRST_FACTOR = 16;           // pixels of the screen along an edge of a pixel of the first picture
  static LINE_PIXELS = 7;
  static BAND_TIME = 24;              // ms
  static POLL = 4;                    // ms until the page asks again whether a band is drawn
  static SHOW_TIME = 120;             // ms from one copy of an unfinished picture to the next
  static MOVING_TIME = 70;            // ms that a picture may take while the camera moves
  static STEP_TIME = 350;             // ms that the next finer picture may take if it is to skip others
  static SMOOTH_TIME = 600;           // ms that a picture of twice the screen's pixels may take, for smooth edges
  static REST = 160;                  // ms without a movement until the picture is refined
  static VERTEX = `#version 300 es
void main() { gl_Position = vec4(4.0 * vec2(gl_VertexID & 1, gl_VertexID >> 1) - 1.0, 0.0, 1.0); }`;
  static COPY = `#version 300 es
precision highp float;
uniform sampler2D picture;
uniform vec2 size;
out vec4 answer;
void main() { answer = texture(picture, gl_FragCoord.xy / size); }`;
  static VALUES = `
uniform highp sampler2D points;
out uvec4 answer;
void main() { answer = uvec4(floatBitsToUint(network(texelFetch(points, ivec2(gl_FragCoord.xy), 0).xyz))); }`;

  constructor(element, payload, options = {}) {
    this.element = element;
    this.payload = payload;
    this.onCamera = options.onCamera || (() => {});
    this.onPicture = options.onPicture || (() => {});
    this.fault = null;
    this.camera_ = NetworkView.start();
    this.section = {axis: -1, place: 0, side: 1};       // axis 0, 1, 2 or -1; place in the domain; the side cut away
    this.canvas = document.createElement("canvas");
    this.canvas.className = "network-canvas";
    this.gl = this.canvas.getContext("webgl2", {alpha: true, antialias: false, powerPreference: "high-performance"});
    if (!this.gl) throw new Error("no WebGL 2");
    element.append(this.canvas);
    this.setFrame(options.frame);
    this.visible = false;
    this.cleanups = [];
    this.controls = new NetworkControls(this);
    this.watch();
    this.ready = this.load();
  }

  // --- what other views use

  // The camera at first.
  static start() { return {eye: {...NetworkView.EYE}, center: {x: 0, y: 0, z: 0}, up: {x: 0, y: 0, z: 1}}; }

  get camera() { return JSON.parse(JSON.stringify(this.camera_)); }

  setCamera(camera) {
    for (const key of ["eye", "center", "up"]) if (camera[key]) this.camera_[key] = {...this.camera_[key], ...camera[key]};
    this.changed();
  }

  // Where cameras are relative to: {center, radius}, file units.
  setFrame(frame) {
    const {center, scale} = this.payload;
    this.center = frame ? frame.center.map((value, axis) => (value - center[axis]) * scale) : [0, 0, 0];
    this.radius = frame ? frame.radius * scale : 0.9;
    this.changed();
  }

  // Cut away what lies beyond a plane. axis: 0, 1, 2, or -1 for no cut. place: domain. side: 1 or -1, which is cut away.
  setSection(section) {
    Object.assign(this.section, section);
    this.changed();
  }

  // The surface, or the place in the plane of the section, under a point of the canvas (CSS pixels from its corner):
  // {place: [x, y, z], distance} in file units, or null.
  pick(x, y) {
    if (!this.program || this.lost) return null;
    const probe = this.probe ||= this.finished(this.compile("#define PROBE\n" + this.code()));
    const target = this.probeTarget ||= this.target(1, 1, true);
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    this.useView(probe, width, height);
    this.gl.uniform2f(this.place(probe, "origin"), x - 0.5, height - y - 0.5);
    const bits = new Uint32Array(4);
    this.draw(target, 0, 1);
    this.gl.readPixels(0, 0, 1, 1, this.gl.RGBA_INTEGER, this.gl.UNSIGNED_INT, bits);
    if (bits[0] === 0xffffffff) return null;
    const numbers = new Float32Array(bits.buffer), {center, scale} = this.payload;
    return {place: center.map((value, axis) => value + numbers[axis] / scale), distance: numbers[3] / scale};
  }

  // The network's values, domain units, at points (x, y, z, x, y, z, ...), domain, as the GPU computes them.
  values(points) {
    const gl = this.gl, count = points.length / 3, width = 64, height = Math.ceil(count / width);
    const texels = new Float32Array(4 * width * height);
    for (let i = 0; i < count; i++) texels.set(points.subarray(3 * i, 3 * i + 3), 4 * i);
    const program = this.finished(this.compile(this.payload.network + NetworkView.VALUES));
    const unit = this.bind(program), target = this.target(width, height, true);
    gl.activeTexture(gl.TEXTURE0 + unit);
    const texture = this.texture(gl.TEXTURE_2D);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, width, height, 0, gl.RGBA, gl.FLOAT, texels);
    gl.uniform1i(this.place(program, "points"), unit);
    this.draw(target, 0, height);
    const bits = new Uint32Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA_INTEGER, gl.UNSIGNED_INT, bits);
    for (const made of [texture, target.texture]) gl.deleteTexture(made);
    gl.deleteFramebuffer(target.buffer);
    gl.deleteProgram(program);
    return new Float32Array(bits.buffer).filter((_, index) => index % 4 === 0).subarray(0, count);
  }

  dispose() {
    this.lost = true;
    this.controls.dispose();
    for (const cleanup of this.cleanups) cleanup();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
    clearTimeout(this.polling);
    this.canvas.remove();
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  // --- the GPU's objects

  // Unpack the textures, build the programs, draw. Resolves to whether that worked.
  async load() {
    try {
      this.data = await Promise.all(this.payload.textures.map(NetworkView.unpacked));
      await this.build();
      return true;
    } catch (error) {
      this.fault = error;
      return false;
    }
  }

  async build() {
    const gl = this.gl;
    this.lost = false;
    Object.assign(this, {program: null, probe: null, probeTarget: null, shown: null, spare: null, pass: null, fence: null});
    this.parallel = gl.getExtension("KHR_parallel_shader_compile");
    gl.bindVertexArray(gl.createVertexArray());
    this.textures = this.data.map((texture, unit) => this.upload(texture, unit));
    const program = this.compile(this.code()), copy = this.finished(this.compile(NetworkView.COPY));
    // A compiler may take seconds: the page goes on meanwhile.
    while (this.parallel && !this.lost && !gl.getProgramParameter(program, this.parallel.COMPLETION_STATUS_KHR))
      await new Promise(resolve => setTimeout(resolve, 20));
    if (this.lost) return;
    Object.assign(this, {program: this.finished(program), copy, speed: 5});
    this.colours = this.readColours();
    this.resized();
  }

  code() { return this.payload.network + this.payload.view; }

  compile(fragment) {
    const gl = this.gl, program = gl.createProgram();
    const text = fragment.startsWith("#version") ? fragment : "#version 300 es\n" + fragment;
    for (const [kind, source] of [[gl.VERTEX_SHADER, NetworkView.VERTEX], [gl.FRAGMENT_SHADER, text]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    return program;
  }

  // The program once it is linked. Throws the compiler's words.
  finished(program) {
    const gl = this.gl;
    if (gl.getProgramParameter(program, gl.LINK_STATUS)) return program;
    const words = gl.getAttachedShaders(program).map(shader => gl.getShaderInfoLog(shader));
    throw new Error([gl.getProgramInfoLog(program), ...words].join(" ").trim() || "the GPU gave no program");
  }

  place(program, name) { return this.gl.getUniformLocation(program, name); }

  texture(kind, filter = this.gl.NEAREST) {
    const gl = this.gl, texture = gl.createTexture();
    gl.bindTexture(kind, texture);
    for (const key of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(kind, key, filter);
    for (const key of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(kind, key, gl.CLAMP_TO_EDGE);
    return texture;
  }

  upload({name, kind, numbers}, unit) {
    const gl = this.gl, width = 2048, height = Math.ceil(numbers.length / (4 * width));
    gl.activeTexture(gl.TEXTURE0 + unit);
    if (kind === "volume") {
      const nodes = this.payload.nodes;
      const texture = this.texture(gl.TEXTURE_3D);
      gl.pixelStorei(gl.UNPACK_ALIGNMENT, 2);
      gl.texImage3D(gl.TEXTURE_3D, 0, gl.R16I, nodes, nodes, nodes, 0, gl.RED_INTEGER, gl.SHORT, numbers);
      return {name, unit, kind: gl.TEXTURE_3D, texture};
    }
    const texels = new numbers.constructor(4 * width * height);
    texels.set(numbers);
    const texture = this.texture(gl.TEXTURE_2D);
    const format = kind === "int16" ? [gl.RGBA16I, gl.RGBA_INTEGER, gl.SHORT] : [gl.RGBA32F, gl.RGBA, gl.FLOAT];
    gl.texImage2D(gl.TEXTURE_2D, 0, format[0], width, height, 0, format[1], format[2], texels);
    return {name, unit, kind: gl.TEXTURE_2D, texture};
  }

  // Make a program current, with the network's textures. Returns the first unit that is free.
  bind(program) {
    const gl = this.gl;
    gl.useProgram(program);
    for (const {name, unit, kind, texture} of this.textures) {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(kind, texture);
      gl.uniform1i(this.place(program, name), unit);
    }
    return this.textures.length;
  }

  // A texture to draw into; integers for numbers, else colours.
  target(width, height, integers = false) {
    const gl = this.gl;
    gl.activeTexture(gl.TEXTURE0 + this.textures.length);
    const texture = this.texture(gl.TEXTURE_2D, integers ? gl.NEAREST : gl.LINEAR), buffer = gl.createFramebuffer();
    const format = integers ? [gl.RGBA32UI, gl.RGBA_INTEGER, gl.UNSIGNED_INT] : [gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE];
    gl.texImage2D(gl.TEXTURE_2D, 0, format[0], width, height, 0, format[1], format[2], null);
    gl.bindFramebuffer(gl.FRAMEBUFFER, buffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    return {texture, buffer, width, height};
  }

  // Draw rows low to high of a target with the current program.
  draw(target, low, high) {
    const gl = this.gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.buffer);
    gl.viewport(0, 0, target.width, target.height);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(0, low, target.width, high - low);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.disable(gl.SCISSOR_TEST);
  }

  // --- what is drawn

  // The vectors of the camera, domain: eye, ahead (length 1), right and up (length 1).
  vectors() {
    const {eye, center, up} = this.camera_, list = v => [v.x, v.y, v.z], unit = 2 * this.radius;
    const ahead = normalized(minus(list(center), list(eye)));
    let right = cross(ahead, list(up));
    if (Math.hypot(...right) < 1e-6) right = cross(ahead, [0, 1, 0]);
    right = normalized(right);
    return {eye: list(eye).map((value, axis) => this.center[axis] + unit * value), ahead, right, up: cross(right, ahead)};
  }

  // From one iso-line to the next, domain units: 1, 2 or 5 times a power of ten in file units, at least LINE_PIXELS apart.
  get lineStep() {
    const {eye, center} = this.camera_;
    const away = 2 * this.radius * Math.hypot(eye.x - center.x, eye.y - center.y, eye.z - center.z);
    const height = 2 * Math.tan(NetworkView.FIELD / 2) * away, scale = this.payload.scale;
    const least = NetworkView.LINE_PIXELS * height / Math.max(this.canvas.clientHeight, 1) / scale, power = 10 ** Math.floor(Math.log10(least));
    return scale * power * [1, 2, 5, 10].find(factor => factor * power >= least * 0.999);
  }

  // Make a program of the view current for a picture of some size.
  useView(program, width, height) {
    const gl = this.gl, {eye, ahead, right, up} = this.vectors(), {axis, place, side} = this.section;
    this.bind(program);
    const reach = Math.tan(NetworkView.FIELD / 2), set = (name, values) =>
      gl[`uniform${values.length}f`](this.place(program, name), ...values);
    const normal = [0, 0, 0];
    if (axis >= 0) normal[axis] = side;
    set("size", [width, height]);
    set("origin", [0, 0]);
    set("eye", eye);
    set("ahead", ahead);
    set("right", right.map(value => value * reach * width / height));
    set("up", up.map(value => value * reach));
    set("pixel", [2 * reach / height]);
    set("section", [...normal, place * side]);
    set("line_step", [this.lineStep]);
    for (const [name, colour] of Object.entries(this.colours)) set(name, colour);
  }

  // The colours of the page's theme as numbers from 0 to 1.
  readColours() {
    const probe = document.createElement("i"), colours = {};
    this.element.append(probe);
    for (const name of ["surface", "inside", "outside", "line"]) {
      probe.style.color = `var(--network-${name})`;
      colours[name + "_colour"] = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(value => value / 255);
    }
    probe.remove();
    return colours;
  }

  // --- when it is drawn

  watch() {
    const listen = (target, name, action) => {
      target.addEventListener(name, action);
      this.cleanups.push(() => target.removeEventListener(name, action));
    };
    const sizes = new ResizeObserver(() => this.resized());
    const screen = new IntersectionObserver(entries => {
      this.visible = entries.at(-1).isIntersecting;
      if (this.visible) this.wake();
    });
    sizes.observe(this.canvas);
    screen.observe(this.canvas);
    this.cleanups.push(() => sizes.disconnect(), () => screen.disconnect());
    listen(matchMedia("(prefers-color-scheme: dark)"), "change", () => {
      if (!this.program) return;
      this.colours = this.readColours();
      this.changed();
    });
    listen(document, "visibilitychange", () => this.wake());
    listen(this.canvas, "webglcontextlost", event => { event.preventDefault(); this.lost = true; this.program = null; });
    listen(this.canvas, "webglcontextrestored", () => {
      this.build().catch(error => { this.fault = error; });
    });
  }

  resized() {
    const ratio = Math.min(devicePixelRatio || 1, NetworkView.MOST_RATIO);
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height || (width === this.canvas.width && height === this.canvas.height && this.shown)) return;
    Object.assign(this.canvas, {width, height});
    this.changed();
  }

  // The picture is out of date. While changes follow each other, it is drawn coarsely; then it is refined.
  changed() {
    this.stale = true;
    this.changedAt = performance.now();
    this.wake();
  }

  wake() {
    if (this.frame || this.fence || !this.visible || document.hidden || this.lost || !this.program) return;
    this.frame = requestAnimationFrame(() => { this.frame = 0; this.tick(); });
  }

  get resting() { return performance.now() - this.changedAt > NetworkView.REST; }

  // Start the next picture or go on with one; nothing where the picture is as fine as it gets.
  tick() {
    if (this.lost || this.fence || !this.visible || document.hidden || !this.canvas.width) return;
    // A coarse picture is finished although the camera has moved on: else a slow GPU would never show one.
    if (this.stale && !(this.pass && this.pass.coarse)) this.begin(this.coarseFactor(), true);
    else if (!this.pass) {
      const finer = this.finerFactor();
      if (!finer) return this.onPicture();
      if (!this.resting) {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.wake(), NetworkView.REST);
        return;
      }
      this.begin(finer, false);
    }
    this.drawBand();
    this.poll();
  }

  // Wait for the band that the GPU draws; then go on.
  poll() {
    this.polling = setTimeout(() => {
      if (this.lost) return;
      if (!this.bandIsDone()) return this.poll();
      // The screen shows a picture that is whole, and from time to time the part that is done.
      if (this.pass) this.tick(); else this.wake();
    }, NetworkView.POLL);
  }

  // ms that a picture would take with one pixel for factor^2 pixels of the screen.
  predicted(factor) { return this.canvas.width * this.canvas.height / factor ** 2 / this.speed; }

  coarseFactor() {
    if (!this.shown) return NetworkView.FIRST_FACTOR;
    return [2, 3, 4, 6, 8].find(factor => this.predicted(factor) < NetworkView.MOVING_TIME) || 12;
  }

  finerFactor() {
    const now = this.shown.factor;
    const isSmooth = devicePixelRatio < 1.5 && this.predicted(0.5) < NetworkView.SMOOTH_TIME;
    const finer = [0.5, 1, 2, 4, 8].filter(factor => factor < now && (factor >= 1 || isSmooth));
    return finer.find(factor => this.predicted(factor) < NetworkView.STEP_TIME) || finer.at(-1);
  }

  // Start a picture with one pixel for factor^2 pixels of the screen.
  begin(factor, coarse) {
    const width = Math.ceil(this.canvas.width / factor), height = Math.ceil(this.canvas.height / factor);
    if (this.spare && (this.spare.width !== width || this.spare.height !== height)) this.drop("spare");
    this.spare ||= this.target(width, height);
    this.pass = {factor, coarse, row: height};
    if (coarse) this.stale = false;
  }

  drop(name) {
    this.gl.deleteTexture(this[name].texture);
    this.gl.deleteFramebuffer(this[name].buffer);
    this[name] = null;
  }

  drawBand() {
    const gl = this.gl, {width, height} = this.spare, high = this.pass.row;
    const rows = Math.max(1, Math.floor(this.speed * NetworkView.BAND_TIME / width));
    const low = this.pass.coarse && this.shown ? 0 : Math.max(0, high - rows);
    this.useView(this.program, width, height);
    this.draw(this.spare, low, high);
    this.pass.row = low;
    this.pass.pixels = (high - low) * width;
    this.pass.started = performance.now();
    this.fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
  }

  // Whether the GPU has drawn the last band; if so, learn how fast that was, and show it.
  bandIsDone() {
    const gl = this.gl, state = gl.clientWaitSync(this.fence, 0, 0), now = performance.now();
    if (state === gl.TIMEOUT_EXPIRED) return false;
    gl.deleteSync(this.fence);
    this.fence = null;
    // Pixels a ms. A time of a few polls is no measurement, so the next band is at most twice as high.
    const speed = this.pass.pixels / Math.max(now - this.pass.started, 1);
    this.speed = speed > this.speed ? Math.min(speed, 2 * this.speed) : Math.max(0.05, 0.5 * (speed + this.speed));
    if (this.pass.row === 0 || now - (this.shownAt || 0) > NetworkView.SHOW_TIME) this.show();
    return true;
  }

  // Copy to the canvas: the last whole picture, and over it the rows of the next one that are done.
  show() {
    const gl = this.gl, isWhole = this.pass.row === 0, {width, height} = this.canvas;
    this.shownAt = performance.now();
    if (isWhole) {
      [this.shown, this.spare] = [{...this.spare, factor: this.pass.factor}, this.shown];
      this.pass = null;
    }
    const canvas = {buffer: null, width, height}, unit = this.textures.length;
    gl.useProgram(this.copy);
    gl.uniform2f(this.place(this.copy, "size"), width, height);
    gl.uniform1i(this.place(this.copy, "picture"), unit);
    gl.activeTexture(gl.TEXTURE0 + unit);
    const copy = (picture, low) => {
      gl.bindTexture(gl.TEXTURE_2D, picture.texture);
      this.draw(canvas, low, height);
    };
    if (this.shown) copy(this.shown, 0);
    if (!isWhole) copy(this.spare, Math.ceil((this.pass.row + 1) * height / this.spare.height));
  }

  // The numbers of a texture: their bytes come as base64 of zlib's stream, the lowest byte of each number first.
  static async unpacked({name, kind, count, data}) {
    const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer()), size = planes.length / count;
    const joined = new Uint8Array(planes.length);
    for (let plane = 0; plane < size; plane++)
      for (let i = 0; i < count; i++) joined[size * i + plane] = planes[count * plane + i];
    const numbers = kind === "float32" ? new Float32Array(joined.buffer) : new Int16Array(joined.buffer);
    return {name, kind, numbers: kind === "volume" ? NetworkView.volume(numbers) : numbers};
  }

  // The distances of a volume: 17^3, then for each finer grid its differences from the means of the grid before.
  static volume(levels) {
    let nodes = 17, start = nodes ** 3, volume = levels.slice(0, start);
    while (start < levels.length) {
      for (const axis of [0, 1, 2]) volume = NetworkView.doubled(volume, nodes, axis);
      nodes = 2 * nodes - 1;
      for (let i = 0; i < volume.length; i++) volume[i] += levels[start + i];
      start += volume.length;
    }
    return volume;
  }

  // A volume (z, y, x) with twice the cells along an axis; those before it have been doubled already.
  static doubled(volume, nodes, axis) {
    const finer = 2 * nodes - 1, inner = nodes ** (2 - axis), outer = finer ** axis;
    const made = new Int16Array(outer * finer * inner);
    for (let o = 0; o < outer; o++)
      for (let k = 0; k < finer; k++) {
        const near = (o * nodes + (k >> 1)) * inner, far = near + (k & 1) * inner, to = (o * finer + k) * inner;
        for (let i = 0; i < inner; i++) made[to + i] = (volume[near + i] + volume[far + i]) >> 1;
      }
    return made;
  }
}

const minus = (a, b) => a.map((value, axis) => value - b[axis]);
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const normalized = vector => vector.map(value => value / Math.hypot(...vector));
