"""Where conch answers otherwise than Triton on purpose: the rows of docs/compatibility.md, scenario by scenario."""

from __future__ import annotations

import msgspec


class Purpose(msgspec.Struct, frozen=True):
    """Why an answer differs, and a regular expression for every line that `compare.differences` may tell of it."""

    reason: str
    lines: str


#: The answer as a whole is another: an error instead of a result, or the other way round.
WHOLE = r"(status|headers|body|code)\b.*"
#: Both are errors of the same status.
TEXT = r"(body\.error|details): .*"
#: Both are errors, but of another status.
ERROR = rf"status: .*|{TEXT}"

ESCAPES = "conch decodes %-escapes in paths, as HTTP has it"
HEADER_LENGTH = (
    "conch says that Inference-Header-Content-Length is no number of bytes; Triton reads as much as looks right"
)
COMPRESSION = "conch says what is wrong with the compressed body; Triton goes on with what it got out of it"
INPUT_TWICE = "conch refuses a configuration that names an input twice; Triton loads a model that can never be asked"
NO_GPU = "KIND_GPU runs on the CPU, with a warning, where there is no GPU; Triton refuses the model"
REASONS = "conch's index says why a configuration cannot be used, and lists models without a version; Triton's log does"
ERROR_RESPONSES = "a response that carries an error counts as a failure; Triton counts it as a success"
INSTALLED = "of an unknown backend conch says which ones are installed"
OTHER_PATHS = "the metrics port has one page; Triton answers every path, with nothing"
MADE_UP = "a model loaded from files alone is in the index like every other; Triton lists directories only"

OTHER_IDS = (
    "conch gives models that take correlation ids as strings the string, and refuses numbers; Triton gives them bytes "
    "of its own memory, or fails"
)
TEXT_AS_NUMBER = "conch refuses a string as the id of a sequence whose model takes numbers; Triton makes up a number"
NO_PLACE = "conch refuses a model without a place for any sequence; Triton loads it, and requests wait for ever"
SAID_ONCE = "conch says once that a warm-up is larger than a batch; Triton for each of its requests"
FILE_NAMED = "conch leaves a space behind the name of the file"

CACHE_KEY = (
    "shape, parameters, requested outputs and sequence of a request are part of its key in conch's response cache; "
    "Triton answers with what it has for the same bytes"
)
CACHED_ERRORS = "conch keeps no errors in its response cache; Triton answers with an empty success"
CACHED_WHOLE = "an answer from conch's response cache is the whole answer; Triton's lacks the parameters"
CACHE_BY_DEFAULT = "models that ask for a response cache get one in conch, whether there is a --cache-config or not"

STEP_NAMED = "conch names the step whose model's error does not; the rest of the text is Triton's"
OUTPUT_ORDER = (
    "conch answers the outputs of an ensemble in the order of its configuration; Triton's comes from a hash map"
)
PRUNED = (
    "conch runs what the requested outputs need; Triton's ensemble gets stuck when one output is needed for another"
)
FAILED_ONCE = "a failed request of an ensemble counts as one failure; Triton counts it twice"
RESPONSE_STATISTICS = (
    "conch counts the responses of decoupled Python models one by one; that backend of Triton does not"
)
LATENCIES = (
    "without counter_latencies conch goes on counting requests, where Triton's counts stay 0, and summarises requests "
    "to models with a response cache, too"
)
MIXED_STEPS = "conch names the tensors that responses of different steps would meet in; Triton names the ensemble"
ENDLESS = "conch refuses a step that makes an input of the ensemble again; Triton loads it and never answers"
ALL_ERRORS = "conch lists everything that is wrong with an ensemble; Triton what it finds first"

#: Of a step, in whatever form the answer brings it.
STEP_ERROR = r"(messages\[\d\]\.error_message|events\[\d\]\.error|body\.outputs\[0\]\.data\[0\]): .*"
REASON_ENTRIES = r"(body|messages\[0\]\.models)(: '\w+'|\.\w+: '(reason|state)') unexpected .*UNAVAILABLE.*"
REASON_TEXTS = r"(body|messages\[0\]\.models)\.\w+: 'reason' unexpected .*"
REASONS_BY_PLACE = r"body\[\d+\]: '(reason|state)' unexpected .*"
LOADED_HERE = (
    r"(body|body\.model_stats|messages\[0\]\.models)"
    r"(: 'instances_on_gpu/1' unexpected|: 'input_twice/1' missing|\.input_twice/1[.:]"
    r"|\.instances_on_gpu/1[.:]|\[\d\]\.name: Triton 'input_twice', got 'instances_on_gpu').*"
)
BACKEND_REASON = r"(body|messages\[0\]\.models)\.unknown_backend/1\.reason: .*"
BROKEN_INDEX = Purpose(
    f"{REASONS}; {INSTALLED}; {INPUT_TWICE}; {NO_GPU}",
    f"{REASON_ENTRIES}|{REASON_TEXTS}|{BACKEND_REASON}|{LOADED_HERE}",
)

REFUSED_ENSEMBLES = (
    r"(body|messages\[0\]\.models)"
    r"(: 'input_made_again/1' missing|: 'input_made_again' unexpected).*"
)
BROKEN_ENSEMBLES = Purpose(
    f"{REASONS}; {ENDLESS}",
    rf"{REASON_ENTRIES}|{REASON_TEXTS}|{REFUSED_ENSEMBLES}",
)

#: What is not counted where the only answer of `error_model` that is no exception carries an error.
UNCOUNTED = (
    r".*model_stats\[0\](: '|\.)(inference_count|(inference_stats|batch_stats\[0\])\.(success|fail|queue|compute_\w+)"
    r"(: '|\.)(count|ns))\b.*"
)
UNCOUNTED_METRICS = r'line \w+: nv_inference_(count|request_failure|request_success){model="error_model".*'

ON_PURPOSE: dict[tuple[str, str], Purpose] = {
    ("http_requests", "GET /v2/models/%73imple"): Purpose(ESCAPES, WHOLE),
    ("http_requests", "GET /v2/models/a%20b"): Purpose(ESCAPES, TEXT),
    ("http_requests", "GET /v2/models/a%2Fb"): Purpose(ESCAPES, TEXT),
    ("http_requests", "infer of a percent encoded name"): Purpose(ESCAPES, WHOLE),
    ("http_requests", "BREW /v2"): Purpose("an unknown method is malformed HTTP to conch's parser", ERROR),
    ("http_requests", "the same key twice"): Purpose(
        "the last of equal JSON keys counts, not the first", r"body\.id: .*"
    ),
    ("http_infer", "none of the optional inputs"): Purpose(
        "a model whose inputs are all optional may be asked without any; Triton fails inside its Python backend", WHOLE
    ),
    ("http_infer", "optional model with one required and the optional"): Purpose(
        "conch checks that the required inputs are there; Triton only counts inputs", WHOLE
    ),
    ("http_infer", "shape product overflows"): Purpose(
        "conch compares `data` with the shape as it stands; Triton with a product that overflowed to 0", ERROR
    ),
    ("http_infer", "shape zero batch everywhere"): Purpose(
        "conch says that a batch has at least one element; Triton compares sizes first", TEXT
    ),
    ("http_binary", "first size wrong"): Purpose("of two inputs of a wrong size conch names the first", TEXT),
    ("http_binary", "header no number"): Purpose(HEADER_LENGTH, TEXT),
    ("http_binary", "header number and words"): Purpose(HEADER_LENGTH, WHOLE),
    ("http_binary", "header empty"): Purpose(HEADER_LENGTH, TEXT),
    ("http_binary", "header beyond int32"): Purpose(HEADER_LENGTH, TEXT),
    ("http_compression", "raw deflate request"): Purpose(COMPRESSION, TEXT),
    ("http_compression", "gzip announced but plain sent"): Purpose(COMPRESSION, TEXT),
    ("http_compression", "gzip cut short"): Purpose(COMPRESSION, ERROR),
    ("http_compression", "empty encoding"): Purpose("an empty Content-Encoding is none", WHOLE),
    ("forwarding", "an empty value"): Purpose(
        "an empty header is an empty parameter; Triton makes it one space", r"body\.outputs\[0\]\.data\[0\]: .*"
    ),
    ("grpc_infer", "stream with a message that cannot be parsed"): Purpose(
        "conch ends the stream with an error that says so; Triton ends it with OK", r"(code|details): .*"
    ),
    ("statistics", "of all models"): Purpose(ERROR_RESPONSES, UNCOUNTED),
    ("statistics", "of the model that fails"): Purpose(ERROR_RESPONSES, UNCOUNTED),
    ("statistics", "of all models over gRPC"): Purpose(ERROR_RESPONSES, UNCOUNTED),
    ("metrics", "after the requests"): Purpose(ERROR_RESPONSES, UNCOUNTED_METRICS),
    ("metrics", "with a slash"): Purpose(ERROR_RESPONSES, UNCOUNTED_METRICS),
    ("metrics", "another path"): Purpose(OTHER_PATHS, WHOLE),
    ("metrics", "root"): Purpose(OTHER_PATHS, WHOLE),
    ("shared_memory", "register no bytes"): Purpose(
        "conch says that a region needs bytes; Triton what mmap said", TEXT
    ),
    ("shared_memory", "a second region of an object"): Purpose(
        "an object may have several regions; Triton 2.51 looks at a descriptor that it has closed", WHOLE
    ),
    ("control", "infer after load with file over gRPC"): Purpose(
        "files of a load count over gRPC as they do over HTTP; Triton takes its former ones",
        r"body\.outputs\[0\]\.data\[0\]: Triton 1\.5, got 3\.0",
    ),
    ("control", "index after broken file"): Purpose(MADE_UP, r"body: 'made_up/1' unexpected .*"),
    ("control", "index over gRPC"): Purpose(MADE_UP, r"messages\[0\]\.models: 'made_up/1' unexpected .*"),
    ("control", "index of ready models over gRPC"): Purpose(
        MADE_UP, r"messages\[0\]\.models: 'made_up/1' unexpected .*"
    ),
    ("faults", "timeout is a negative number over gRPC"): Purpose(
        "conch refuses a negative time-out; Triton takes it as one of some hundred thousand years",
        r"(code|details|messages)\b.*",
    ),
    ("faults", "text with a NUL"): Purpose(
        "a NUL is a character of an id or a parameter like others; Triton's texts end there", r"body\.(id|outputs).*"
    ),
    **{
        ("faults", f"load with a path of the machine{over}"): Purpose(
            "conch refuses the path of a file that does not begin in the model's directory; Triton puts it below that",
            f"code: .*|{ERROR}",
        )
        for over in ("", " over gRPC")
    },
    ("faults", "load with a config of a backend with a path"): Purpose(INSTALLED, TEXT),
    ("faults", "infer after the same config and a file"): Purpose(
        "files of a load count whenever it brings some; Triton has a look at them where the configuration is another",
        WHOLE,
    ),
    **{
        ("faults", f"{what} the parent directory{over}"): Purpose(
            "a model has a name, and '..' is none; Triton looks for its versions beside the repository",
            f"code: .*|{ERROR}",
        )
        for what, over in (("load", ""), ("load", " over gRPC"), ("metadata of", " over gRPC"))
    },
    ("broken", "index"): BROKEN_INDEX,
    ("broken", "index over gRPC"): BROKEN_INDEX,
    ("broken", "index of ready models"): Purpose(f"{INPUT_TWICE}; {NO_GPU}", LOADED_HERE),
    ("broken", "statistics"): Purpose(f"{INPUT_TWICE}; {NO_GPU}", LOADED_HERE),
    ("broken_on_demand", "index after the loads"): BROKEN_INDEX,
    ("broken_on_demand", "load unknown_backend"): Purpose(INSTALLED, TEXT),
    **{
        ("ensembles", scenario): Purpose(STEP_NAMED, TEXT)
        for scenario in (
            "step answers invalid argument",
            "step answers unavailable",
            "step answers cancelled",
            "step answers not found",
            "step answers unavailable over gRPC",
            "step of a nested ensemble answers an error",
        )
    },
    **{
        ("ensembles", scenario): Purpose(PRUNED, WHOLE)
        for scenario in ("inner tensor alone", "last output alone", "optional input that no wanted output needs")
    },
    ("ensembles", "inner tensor as output"): Purpose(OUTPUT_ORDER, r"body\.outputs\[\d\].*"),
    ("ensembles", "only the optional input"): Purpose(
        "conch checks that the required inputs are there; Triton only counts inputs", WHOLE
    ),
    ("ensemble_statistics", "after a failure"): Purpose(FAILED_ONCE, r".*\.fail\.count: .*"),
    ("ensembles_broken", "index"): BROKEN_ENSEMBLES,
    ("ensembles_broken", "index of ready models"): Purpose(ENDLESS, REFUSED_ENSEMBLES),
    ("ensembles_broken", "index over gRPC"): BROKEN_ENSEMBLES,
    ("ensembles_broken_on_demand", "index after the loads"): BROKEN_ENSEMBLES,
    ("ensembles_broken_on_demand", "load many_errors"): Purpose(ALL_ERRORS, TEXT),
    **{
        (group, scenario.format(model)): Purpose(reason, WHOLE)
        for group, scenario in (
            ("ensembles_broken", "{} ready"),
            ("ensembles_broken", "metadata of {}"),
            ("ensembles_broken_on_demand", "load {}"),
        )
        for model, reason in (("input_made_again", ENDLESS),)
    },
    ("decoupled_ensembles", "index"): Purpose(REASONS, REASONS_BY_PLACE),
    ("decoupled_ensembles_on_demand", "index"): Purpose(REASONS, REASONS_BY_PLACE),
    **{
        ("decoupled_ensembles_on_demand", f"load {model}"): Purpose(MIXED_STEPS, TEXT)
        for model in ("beside", "joined with input", "joined with other", "two sources", "two sources apart")
    },
    **{
        ("decoupled_ensembles", scenario): Purpose(STEP_NAMED, STEP_ERROR)
        for scenario in (
            "alone with an error first",
            "alone with an error in the middle",
            "alone with an error at the end",
            "first with an error in the middle",
            "first whose next step answers an error",
            "from a thread with an error",
            "last whose first step fails",
            "ordinary declared decoupled that fails",
            "nested that fails",
            "generated with an error",
            "called that fails",
        )
    },
    **{
        ("decoupled_ensembles", scenario): Purpose(PRUNED, r"messages: .*")
        for scenario in ("inner tensor alone", "last output alone")
    },
    **{
        ("decoupled_ensembles", scenario): Purpose(
            OUTPUT_ORDER, r"messages\[\d\]\.infer_response\.(outputs\[\d\]|raw_).*"
        )
        for scenario in ("inner tensor as output", "outputs at a time")
    },
    **{
        ("decoupled_statistics", f"of {what}"): Purpose(RESPONSE_STATISTICS, r".*response_stats\b.*")
        for what in (
            "both",
            "both over gRPC",
            "nothing",
            "the last at once",
            "an error in the middle",
            "an empty one in the middle",
            "one that raises",
            "a thread",
            "one given up",
            "its first step",
        )
    },
    ("decoupled_statistics", "ensemble that fails"): Purpose(STEP_NAMED, STEP_ERROR),
    ("decoupled_statistics", "of an ensemble that fails"): Purpose(FAILED_ONCE, r".*\.fail\.count: .*"),
    ("decoupled_statistics", "over gRPC"): Purpose(FAILED_ONCE, r".*\.fail\.count: .*"),
    ("decoupled_statistics", "of an ordinary model"): Purpose(ERROR_RESPONSES, UNCOUNTED),
    ("latencies", "metrics"): Purpose(
        LATENCIES, r"line \w+: nv_inference_(count|exec_count|request_success|request_summary_us\w*)\{.*"
    ),
    ("model_calls", "an ensemble whose step fails"): Purpose(STEP_NAMED, r"body\.outputs\[0\]\.data\[0\]: .*"),
    **{
        (group, scenario.format(model)): Purpose(reason, WHOLE)
        for group, scenario in (
            ("broken", "{} ready"),
            ("broken", "metadata of {}"),
            ("broken", "infer of {}"),
            ("broken_on_demand", "load {}"),
        )
        for model, reason in (("input_twice", INPUT_TWICE), ("instances_on_gpu", NO_GPU))
    },
    ("response_cache", "equal of an ensemble"): Purpose(CACHED_WHOLE, r"body: 'parameters' unexpected .*"),
    ("response_cache", "same values in another shape"): Purpose(CACHE_KEY, r"body\.outputs\[.*"),
    ("response_cache", "with a parameter"): Purpose(CACHE_KEY, r"body\.outputs\[1\]\.data.*"),
    ("response_cache", "with another parameter"): Purpose(CACHE_KEY, r"body\.outputs\[1\]\.data.*"),
    ("response_cache", "one output"): Purpose(CACHE_KEY, r"body\.outputs: 'COUNT' missing .*"),
    ("response_cache", "another output"): Purpose(
        CACHE_KEY, r"body\.outputs(: 'OUTPUT0' missing|\.COUNT\.data\[0\]:) .*"
    ),
    ("response_cache", "of a sequence"): Purpose(CACHE_KEY, r"body\.outputs\[1\]\.data.*"),
    ("response_cache", "equal error"): Purpose(CACHED_ERRORS, WHOLE),
    ("response_cache_default", "equal"): Purpose(CACHE_BY_DEFAULT, r"body\.outputs\[1\]\.data.*"),
    **{("sequences", f"texts seven {number}"): Purpose(OTHER_IDS, WHOLE) for number in (1, 2, 3)},
    ("sequences", "a name where the model takes numbers"): Purpose(TEXT_AS_NUMBER, WHOLE),
    ("sequences", "a number where the model takes names"): Purpose(OTHER_IDS, TEXT),
    ("sequences_refused", "no candidates"): Purpose(NO_PLACE, WHOLE),
    ("sequences_refused", "initial state file too short"): Purpose(FILE_NAMED, TEXT),
    ("warmups", "load file_too_short"): Purpose(FILE_NAMED, TEXT),
    ("warmups", "load batch_too_large"): Purpose(SAID_ONCE, TEXT),
    ("namespaces", "statistics of all"): Purpose(
        "conch tells the statistics of all models with namespacing, too; Triton does not find its own models", WHOLE
    ),
    ("namespaces", "metrics"): Purpose(
        ERROR_RESPONSES, r'line (missing|unexpected): nv_inference_[a-z_]+\{model="calls",.*'
    ),
    ("namespaces_control", "index after the name of two is unloaded"): Purpose(REASONS, r"body: .*"),
    ("duplicates", "load an ensemble that uses it"): Purpose(
        "conch says which model an ensemble lacks; Triton that it did not look", ERROR
    ),
    ("duplicates", "index after unload"): Purpose(REASONS, REASONS_BY_PLACE),
}
