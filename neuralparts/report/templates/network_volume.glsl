// The distance at p, domain units, negative inside, between the eight nodes around it of a grid over [-1, 1]^3.
precision highp float;
precision highp int;
uniform highp isampler3D network_volume;

float network(vec3 p)
{
    const int nodes = @NODES@;
    vec3 place = (clamp(p, -1.0, 1.0) + 1.0) * (0.5 * float(nodes - 1));
    vec3 cell = min(floor(place), float(nodes - 2)), far = place - cell;
    float sum = 0.0;
    for (int corner = 0; corner < 8; corner++) {
        ivec3 step = ivec3(corner & 1, corner >> 1 & 1, corner >> 2);
        vec3 w = mix(1.0 - far, far, vec3(step));
        sum += w.x * (w.y * w.z) * float(texelFetch(network_volume, ivec3(cell) + step, 0).x);
    }
    return sum * @UNIT@;
}
