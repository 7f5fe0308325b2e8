// The picture of a network, one ray a pixel: sphere tracing (Hart, 1996) of `float network(vec3 p)`, whose text stands
// before this one. Lengths are domain units: the part lies in the cube [-1, 1]^3. Colours are premultiplied by alpha;
// where nothing is hit, the page shines through.

uniform vec2 size;                  // of the picture, pixels
uniform vec2 origin;                // the pixel of the picture that this drawing starts at
uniform vec3 eye, right, up, ahead; // right and up reach to the border of the picture, ahead has length 1
uniform float pixel;                // size of a pixel at distance 1
uniform vec4 section;               // (n, w): points with n p > w are cut away; n = 0 cuts nothing
uniform float line_step;            // from one iso-line of the distance to the next
uniform vec3 surface_colour, inside_colour, outside_colour, line_colour;
#ifdef PROBE
out uvec4 answer;                   // bits of the place and of the distance there; all ones if nothing is hit
#else
out vec4 answer;
#endif

// What a ray meets. kind: NOTHING, SURFACE or CUT (material in the plane of the section).
const int NOTHING = 0, SURFACE = 1, CUT = 2;
// What the next value of the network is for. The stages share one loop because a compiler copies the network's code to
// each place that calls it.
const int AT_PLANE = 0, MARCH = 1, BISECT = 2, NORMAL = 3, DONE = 4;
const int MOST_VALUES = 192;
// A step is shorter than the value, because the values of a network grow a little faster than the distance here and there.
const float STEP = 0.9;
// A ray this near has arrived: so many domain units, or a fraction of a pixel. Then so many bisections. What is shown as
// a number is measured more finely than what is drawn.
#ifdef PROBE
const float NEAREST = 1e-5, PIXELS = 0.0;
const int BISECTIONS = 16;
#else
const float NEAREST = 4e-4, PIXELS = 0.15;
const int BISECTIONS = 6;
#endif
const float SHORTEST = 4e-4;        // step
const float NORMAL_STEP = 2e-3;     // half the edge of the tetrahedron that the normal is measured on

struct Hit {
    int kind;
    vec3 place, normal;
    float value;                    // at the place
    bool crosses;                   // the ray crosses the plane of the section within the cube
    float plane_value;              // there
    vec3 plane_place;
    float change;                   // of plane_value from pixel to pixel, at most
};

// Where the ray enters and leaves the cube: (t, t); the second is smaller if it misses.
vec2 cube_range(vec3 ray)
{
    vec3 a = (-1.0 - eye) / ray, b = (1.0 - eye) / ray, low = min(a, b), high = max(a, b);
    return vec2(max(max(low.x, low.y), max(low.z, 0.0)), min(min(high.x, high.y), high.z));
}

Hit trace(vec3 ray)
{
    Hit hit = Hit(NOTHING, vec3(0.0), vec3(0.0), 0.0, false, 1e3, vec3(0.0), 0.0);
    vec2 range = cube_range(ray);
    float t = range.x, end = range.y, plane = 0.0;
    int stage = MARCH;
    // The ray starts at the plane if the eye is on the side that is cut away, else it ends there.
    float facing = dot(section.xyz, ray), lead = section.w - dot(section.xyz, eye);
    if (section.xyz != vec3(0.0)) {
        plane = lead / (abs(facing) > 1e-9 ? facing : 1e-9);
        if (lead < 0.0) {
            if (facing >= 0.0) return hit;
            if (plane > t && plane < end) { stage = AT_PLANE; t = plane; hit.crosses = true; }
            else t = max(t, plane);
        } else if (facing > 0.0) end = min(end, plane);
    }
    if (t >= end) return hit;
    float before = t, low = t, high = t, best = 1e3;
    int count = 0; // of bisections, then of the normal's values
    vec3 offset = vec3(0.0), gradient = vec3(0.0);
    for (int i = 0; i < MOST_VALUES && stage != DONE; i++) {
        vec3 p = eye + t * ray + offset;
        float value = network(p), near = max(NEAREST, PIXELS * pixel * t);
        if (stage == AT_PLANE) {
            hit.plane_value = value;
            hit.plane_place = p;
            hit.change = 1.5 * pixel * t / max(abs(facing), 0.05);
            stage = MARCH;
            if (value < 0.0) { hit.kind = CUT; hit.place = p; hit.value = value; stage = DONE; }
        } else if (stage == MARCH) {
            if (value < near) {
                hit.value = value;
                stage = value < 0.0 && t > before ? BISECT : NORMAL;
                low = before; high = t;
            } else {
                before = t;
                t += max(STEP * value, SHORTEST);
                if (t > end) stage = DONE;
            }
        } else if (stage == BISECT) {
            if (value < 0.0) high = t; else { low = t; hit.value = value; }
            if (++count == BISECTIONS) { count = 0; stage = NORMAL; }
        }
        if (stage == BISECT) t = 0.5 * (low + high);
        if (stage == NORMAL) {
            if (hit.kind == NOTHING) { hit.kind = SURFACE; hit.place = eye + t * ray; }
            else gradient += offset * value;
            if (count == 4) {
                // The normal of what is seen does not point away; on a sharp edge the gradient may.
                gradient = normalize(gradient);
                hit.normal = normalize(gradient - max(dot(gradient, ray), 0.0) * ray);
                stage = DONE;
            }
            // The corners of a tetrahedron: (1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1).
            vec3 corner = count == 0 ? vec3(1, -1, -1) : count == 1 ? vec3(-1, -1, 1) : count == 2 ? vec3(-1, 1, -1) : vec3(1);
            offset = corner * max(NORMAL_STEP, 0.2 * pixel * t);
            count++;
        }
    }
    return hit;
}

#ifdef PROBE
void main()
{
    vec2 place = 2.0 * (gl_FragCoord.xy + origin) / size - 1.0;
    Hit hit = trace(normalize(ahead + place.x * right + place.y * up));
    if (hit.kind == NOTHING && hit.crosses) { hit.kind = CUT; hit.place = hit.plane_place; hit.value = hit.plane_value; }
    answer = hit.kind == NOTHING ? uvec4(0xffffffffu) : floatBitsToUint(vec4(hit.place, hit.value));
}
#else
// How much of a pixel a line covers where `value` is `away` from it; change: of the value from pixel to pixel.
float line(float away, float change, float width)
{
    return clamp(0.5 + width - away / max(change, 1e-9), 0.0, 1.0);
}

// The plane of the section: its colour with the iso-lines, premultiplied. Stronger inside than outside.
vec4 plane_colour(float value, float change)
{
    float lines = value / line_step, shade = clamp(abs(value) / (8.0 * line_step), 0.0, 1.0);
    bool inside = value < 0.0;
    // Lines that would lie within three pixels of each other fade.
    float iso = line(abs(lines - round(lines)) * line_step, change, 0.5) * clamp(line_step / (3.0 * change) - 0.5, 0.0, 1.0);
    float alpha = inside ? 1.0 : mix(0.42, 0.2, shade);
    vec4 colour = vec4(inside ? mix(inside_colour, inside_colour * 0.62, shade) : outside_colour, 1.0) * alpha;
    colour = mix(colour, vec4(line_colour, 1.0), (inside ? 0.5 : 0.4) * iso);
    return mix(colour, vec4(line_colour, 1.0), line(abs(value), change, 1.0)); // the surface itself
}

void main()
{
    vec2 place = 2.0 * (gl_FragCoord.xy + origin) / size - 1.0;
    vec3 ray = normalize(ahead + place.x * right + place.y * up);
    Hit hit = trace(ray);
    float change = min(fwidth(hit.plane_value), hit.change);
    vec4 colour = vec4(0.0);
    if (hit.kind == SURFACE) {
        // A lamp on the left of the eye and above, a weaker one on the right, and light from all around.
        vec3 lamp = normalize(normalize(up) * 0.8 - normalize(right) * 0.45 - ahead * 0.6);
        vec3 side = normalize(normalize(right) * 0.9 - ahead * 0.4);
        float light = 0.5 + 0.56 * max(dot(hit.normal, lamp), 0.0) + 0.12 * max(dot(hit.normal, side), 0.0);
        float gleam = pow(max(dot(reflect(ray, hit.normal), lamp), 0.0), 24.0);
        colour = vec4(surface_colour * light + 0.14 * gleam, 1.0);
    }
    if (hit.crosses) {
        vec4 plane = plane_colour(hit.plane_value, change);
        colour = plane + (1.0 - plane.a) * colour;
    }
    answer = colour;
}
#endif
