"""What a user may choose, and what applies where nothing is chosen.

The flags and the stages both read these facts, so each stands here once. The first of each tuple is the default. This
module imports nothing, so that `--help` is fast.
"""

# File suffixes that are read, and formats that are written.
MESH_SUFFIXES = (".stl", ".obj", ".ply", ".off", ".glb", ".gltf", ".3mf")
SAMPLES_SUFFIX = ".npz"
# Suffixes of the published networks that are read as models.
KERAS_SUFFIXES = (".h5", ".hdf5")
OUTPUT_FORMATS = ("stl", "ply", "obj", "glb", "3mf", "off")
# How the numbers of a model are kept in its file.
PRECISIONS = ("float32", "float16", "int8")
# What a fit writes for a part (--outputs). The record is always written: it says that the part is done.
OUTPUTS = ("model", "mesh", "page", "record")
# Forms that a model is exported to, and the suffix that each form's file has. Every suffix belongs to one form.
EXPORT_FORMS = {
    "c": ".h",
    "numpy": ".py",
    "glsl": ".glsl",
    "mujoco": ".c",
    "onnx": ".onnx",
    "torch": ".pt2",
    "npz": ".npz",
    "vti": ".vti",
    "nvdb": ".nvdb",
}
# Those that are grids of R^3 values.
GRID_FORMS = ("npz", "vti", "nvdb")

# Labels.
DISTANCE_ENGINES = ("auto", "open3d", "numba")
SAMPLING_METHODS = ("Importance", "Surface", "Uniform")
# beta of the density exp(-beta |d|), per domain unit (Davies et al., 2020).
IMPORTANCE_WEIGHT = 60.0
# At this weight a sample is a ten-thousandth from the surface on average; beyond it, finding samples takes minutes.
LARGEST_IMPORTANCE_WEIGHT = 10_000
# Fraction of the points that are uniform over the cube: the far field has a thousandth of the importance density.
UNIFORM_RATIO = 0.05
# Distance between the two points of a pair, domain units: a cell of a grid of 256^3.
PAIR_LENGTH = 1 / 128
SCALERS = ("none", "StandardScaler", "PowerTransformer", "QuantileTransformer")

# The reconstruction: nodes along an edge of its grid.
RECONSTRUCTION_RESOLUTION = 256
# Protocols by which others measure a fit; the nodes along an edge of their grid, and the points on a surface.
PROTOCOLS = ("none", "neurbf")
PROTOCOL_RESOLUTION, PROTOCOL_POINTS = 1024, 1_000_000
# Before a value of --simplify that is a length.
SIMPLIFY_ERROR = "error:"

# The network.
ACTIVATIONS = ("relu", "leakyrelu", "elu", "sine")
INITIALISATIONS = ("he_uniform", "he_normal", "xavier_uniform", "xavier_normal", "siren")
ENCODINGS = ("none", "hashgrid")
# Hidden layers of a network of uniform widths, and their width.
NUM_LAYERS, LAYER_WIDTH = 8, 32
# Values of --damArch; the last one searches for widths.
SEARCH = "search"
ARCHITECTURES = (0, 1, SEARCH)
# Hidden layers for which it finds them, if --numLayers does not say: as many as DAM's network has.
SEARCHED_LAYERS = 11
# Most hidden layers, and largest width, that --widths takes.
MOST_LAYERS, LARGEST_WIDTH = 100, 8192
# Fewest and most parameters that --damParameters takes: with fewer, the narrow layers would have one unit or two.
FEWEST_PARAMETERS, MOST_PARAMETERS = 2_000, 20_000_000
# Most parameters of the network that is found if --damParameters does not say: half of DAM's 589,790.
SEARCHED_PARAMETERS = 294_895
# Sizes of the hash grid.
HASH_LEVELS, HASH_FEATURES = 6, 4
# The compiled training step and the second fit take a layer and features up to these; wider ones were not measured.
WIDEST_COMPILED_LAYER, MOST_COMPILED_FEATURES = 64, 8
HASH_BASE_RESOLUTION, HASH_FINEST_RESOLUTION = 16, 256
HASH_TABLE_LOG2 = 15
# A float32 coordinate near 1 has a step of 2^-24: on a finer grid the place of a point in its cell would be lost.
LARGEST_HASH_RESOLUTION = 2**16
LARGEST_HASH_TABLE_LOG2 = 24

# The fit.
EPOCHS, BATCH_SIZE, LEARNING_RATE = 4, 1024, 0.001
OPTIMIZERS = ("soap", "adam")
SCHEDULES = ("linear", "cosine", "constant")
LOSSES = ("l1", "l2", "clamp", "weighted", "relative")

# Parts that a GPU trains at once, at most, if the flags do not say; and a worker on a CPU, which takes the steps of
# plain networks wider than this faster one after the other (docs/log.md).
PARTS_OF_A_GPU, PARTS_OF_A_WORKER, WIDEST_STACKED_ON_A_CPU = 64, 4, 128
# Prepared parts with which an idle GPU begins. One more batch takes as long as 4.5 more parts in a batch would
# (docs/log.md), so with 8 ready, waiting for more costs more than another batch.
ENOUGH_FOR_A_GPU = 8
