# ruff: noqa: E501 - alternatives and lines of logs are quoted whole
"""Deaths for the image, the container and the command line.

What only one engine prints is in its code: tests/engines/test_death_texts.py names the versions. The texts of compilers,
loaders, PyTorch, Triton, FlashInfer, Ray and the C library are as public reports quote them.
"""

from __future__ import annotations

from llm_operator.engines.remedies import AGREE
from llm_operator.engines.signature import CODE, SYMPTOM, Signature, sign

_OWN_IMAGE = "use the engine project's own image of that version in engine.image"

IMAGE: tuple[Signature, ...] = (
    sign(
        r"Failed to find C compiler|No such file or directory: '?(?:\S*/)?(?:gcc|cc|g\+\+|c\+\+|nvcc|ninja|cicc|ptxas)(?![\w-])"
        r"|(?:Could not find|cannot find|Failed to find|not found:?) ['\"`]?(?:nvcc|gcc|g\+\+|cuobjdump|nvdisasm|ptxas)"
        r"|(?:nvcc|gcc|g\+\+|cc|ninja): (?:command )?not found|Ninja is required to load C\+\+ extensions"
        r"|CUDA_HOME environment variable is not set|Could not find (?:CUDA|nvcc).{0,40}(?:CUDA_HOME|PATH)"
        r"|InvalidCxxCompiler|No working C\+\+ compiler|Cannot find a working triton installation"
        r"|fatal error: [\w./+-]{1,80}\.h(?:pp|h)?: No such file|Python\.h: No such file"
        r"|Could not find nvcc|/(?:nvcc|gcc|g\+\+|cc|ninja): not found|Unable to find the CUDA toolkit"
        r"|cannot find -l(?:cuda|cudart)\b|libcuda\.so cannot found",
        "CompilerMissing",
        "the engine compiles kernels at start and the image lacks a compiler or its files",
        _OWN_IMAGE,
    ),
    sign(
        r"Error building extension|'ninja'.{0,60}returned non-zero|Ninja build failed|ninja: build stopped|CompilationError"
        r"|BackendCompilerFailed|torch\._dynamo\.exc\.|InductorError|CppCompileError|LoweringException|nvcc fatal"
        r"|NVCC compilation failed|nvrtc: error|NVRTC_ERROR|nvcc error|error: command '\S*(?:gcc|nvcc)' failed"
        r"|JIT compilation failed|MLIR.{0,20}(?:failed|error)|Failed to compile the graph|PassManager::run failed"
        r"|'[^\s']{0,200}(?:gcc|nvcc|cc|ptxas)'.{0,400}returned non-zero exit status|tvm\.error\.InternalError|TorchRuntimeError"
        r"|^LLVM ERROR:|Internal Triton PTX codegen error|`ptxas` (?:stderr|failed)|BackendCompilerFailed|\bauto_functionalized\b|changed since the last compilation|^AssertionError: backend compilation occurred"
        r"|[Aa]ssertion (?:error|failed) \(\S{0,200}\bjit\w*/\S{1,80}\)",
        "CompileFailed",
        "a kernel could not be compiled at start",
        "use another engine.version or its project's own image in engine.image",
        rank=SYMPTOM,
    ),
    sign(
        r"<Triton> (?:check|test) failed",
        "CompileFailed",
        "the engine's own test of Triton failed",
        "use another engine.version or its project's own image in engine.image",
        rank=CODE,
    ),
    sign(
        # The model's own directory is read only, and neither devices nor /proc hold a cache.
        r"(?:Permission denied|Read-only file system): '?(?!/(?:models|dev|proc|sys|etc|var/run|run)\b)(?:\.{0,2}/|\.\w)"
        r"|There was a problem when trying to write in your cache folder|mkdir: cannot create directory"
        r"|cannot cache function|is not a writable (?:dir|cache)|Failed to create .{0,40}cache.{0,60}(?:ermission|ead-only)"
        r"|could not create .{0,40}: (?:Permission denied|Read-only)"
        r"|(?:No such file or directory|File exists|Not a directory): '\S{1,200}/\.(?:cache|triton|config)(?:/(?!huggingface|modelscope)\w+)?'",
        "CacheNotWritable",
        "the engine cannot write a directory of its caches",
        "set HOME, HF_HOME, TRITON_CACHE_DIR and VLLM_CACHE_ROOT in engine.env to writable directories, such as below /tmp",
    ),
    sign(
        r"getpwuid\(\): uid not found|No username set in the environment|no such user|I have no name!"
        r"|unable to find user \S+: no matching entries",
        "UserUnknown",
        "the user of the container has no name in the image",
        "set USER, LOGNAME and TORCHINDUCTOR_CACHE_DIR in engine.env",
    ),
    sign(
        r"(?i)DLL load failed|error while loading shared libraries: (\S+?):|(?<![^\s'\"(:])([^\s:]{1,200}\.so[.\d]{0,20}): cannot open shared object file"
        r"|undefined symbol: (\S+)|version `(\S+)' not found|libcuda\.so\S* (?:not found|cannot)|cannot allocate memory in "
        r"static TLS|^NameError: name '(nccl\w+)' is not defined|^AttributeError: 'NoneType' object has no attribute '(c(?:de)?(?:quantize|gemm|get|igemm|gemv)_\w+)'|failed to load the NCCL library|libcudart is not loaded|libcudart\.so\S*.{0,20}not found|Failed to load .{0,40}\.so",
        "LibraryMissing",
        "a shared library is missing in the image or of another version: {0}",
        "use the engine project's own image in engine.image; libcuda.so.1 comes from the NVIDIA container toolkit: check "
        "runtimeClassName",
    ),
    sign(
        r"Multi-nodes support requires `ray`|Ray is not installed|Using Ray backend requires installation of ray"
        r"|No module named 'ray'",
        "RayMissing",
        "the image holds no ray, which this executor needs",
        "remove --distributed-executor-backend from engine.extraArgs",
    ),
    sign(
        r"No module named '(?:tiktoken|sentencepiece|mistral_common|protobuf)|(?:tiktoken|sentencepiece|protobuf|blobfile)"
        r"\S* (?:is|was) not (?:found|installed)|requires the (?:SentencePiece|protobuf|tiktoken) library",
        "PackageMissing",
        "the image lacks a package that the model's tokenizer needs",
        "use the engine project's own image of a newer version: engine.version or engine.image",
    ),
    sign(
        r"cannot import name '([^']+)' from '(?:transformers|tokenizers|huggingface_hub)"
        r"|<transformers> check failed|Converting from (?:SentencePiece and )?Tiktoken failed"
        r"|(?:Tokenizer|Processor)\w*'? (?:object )?has no attribute|Tokenizer class (\S+) does not exist"
        r"|data did not match any variant of untagged enum|TokenizersBackend|all_special_tokens_extended"
        r"|(?:transformers|tokenizers|huggingface[-_]hub)\b\S*(?:>|<|=|!).{0,60}is required|Couldn't instantiate the backend tokenizer|Can't load tokenizer for"
        r"|Unrecognized processing class|Can't load (?:image|feature) processor"
        r"|module 'transformers\S*' has no attribute|mistral.?common.{0,80}(?:version|upgrade)"
        r"|<transformers> test failed|requires transformers version \S+ but|Failed to import transformers\.",
        "TokenizerMismatch",
        "the tokenizer or the transformers package does not go with this engine or this model",
        "use the engine project's own image of another engine.version",
    ),
    sign(
        # Of any two packages: NumPy 2 and what was built for NumPy 1 is the commonest pair.
        r"version \(?[\w.+]{1,40}\)? (?:does not match|is not compatible with|is incompatible with)|requires CUDA \d[\d.]* or (?:later|newer|higher|above)|(?:was|were) removed in the NumPy|compiled using NumPy 1|numpy\.core\.multiarray failed to import|_ARRAY_API not found"
        r"|numpy\.\w+ size changed, may indicate binary incompatibility|No module named 'numpy\.\S+'|Numpy is not available"
        r"|(?:Error|Exception): \w[\w.-]* (?:needs|requires) [\w.-]+ (?:version )?[<>=!~]*\d[\w.]*(?: or (?:less|older|newer|greater|later))?"
        r"[.,;]? .{0,40}(?:[Gg]ot|found|installed|have|is)\b|VersionConflict|DistributionNotFound"
        r"|\b\w[\w.-]* version \S+ (?:or (?:higher|later|newer|above) )?is required|requires (?:PyTorch|torch|NCCL|transformers) ?>=? ?\d"
        r"|requires? .{1,60}, but (?:you have|found|got) \S+ .{0,20}(?:incompatible|\d)|symbol \S+ version \S+ not defined in file"
        r"|cannot import name '([^']+)' from '(?:torch|triton|numpy|pydantic|xgrammar|outlines|flashinfer|compressed_tensors)\b",
        "PackageMismatch",
        "two packages of the image do not go together",
        "use the engine project's own image of another version: engine.version or engine.image",
    ),
    sign(
        r"(?:ModuleNotFoundError|ImportError|System error): No module named '([^']+)'|<PyTorch> check failed"
        r"|requires the following packages that were not found in your environment: (.+)"
        r"|^[\w.]*Error: .{1,60} requires (?:<(\w+)>|https://github\.com/(\S+)|(\w+) to be available)"
        r"|^NameError: name '(\w+_ops|_C\w*|flash_attn\w*|triton)' is not defined"
        r"|ImportError: (?:Please install|cannot import name)|PackageNotFoundError: (?:No package metadata .{0,20})?(\S+)"
        r"|^[\w.]*(?:Error|Exception): .{0,200}?(?:(?:[Pp]lease|pip) install `?([\w.\-]+)|\b([\w.\-]{1,60}) is not installed"
        r"|\b([\w.\-]{2,60}) not (?:available|found)[.,] (?:[Pp]lease )?(?:[Ii]nstall|follow))",
        "PackageMissing",
        "the image lacks a Python package or module: {0}",
        "use an image that has it: engine.image, or another engine.version",
        rank=SYMPTOM,
    ),
    sign(
        r"^TypeError: (?:\w+\.)*\w*(?<![a-z])lora_\w+\(\) missing \d+ required",
        "AdapterRefused",
        "the engine's code for LoRA adapters failed",
        "correct or remove the adapters in engine.extraArgs, or use another engine.version",
        rank=SYMPTOM,
    ),
    sign(
        r"^TypeError: (?!BackendCompilerFailed)\S+\(\) got (?:an unexpected keyword|multiple values for) argument '(\w+)'|^TypeError: (?!BackendCompilerFailed)\S+\(\) missing \d+ required (?!positional argument: '(?:message|inner_exception|line_errors|request|response)'$)"
        r"positional argument|^AttributeError: module '([\w.]+)' has no attribute|^RuntimeError: operator \S+ does not exist"
        r"|^AttributeError: '_OpNamespace'|^RuntimeError: \S+\(\) (?:expected at most \d+ argument\(s\) but received|is missing value for argument"
        r"|Unknown keyword argument|incompatible function arguments)",
        "PackageMismatch",
        "the engine and a package of its image do not go together",
        "use the engine project's own image of another version: engine.version or engine.image",
        rank=SYMPTOM,
    ),
)

CONTAINER: tuple[Signature, ...] = (
    sign(
        r"pthread_create(?: failed)?.{0,40}Resource temporarily|can't start new thread"
        r"|(?<!Again: )Resource temporarily unavailable|fork: retry|cannot fork|libgomp: Thread creation failed"
        r"|OMP: Error #34|[Uu]nable to start (?:new )?thread|uv_thread_create|Os \{ code: 11",
        "ProcessLimit",
        "the container may not start more processes or threads",
        "set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1 in engine.env, or raise the kubelet's podPidsLimit",
    ),
    sign(
        r"what\(\): +Operation not permitted|pthread_create failed.{0,40}Operation not permitted",
        "ProcessLimit",
        "the container may not start a thread: its runtime's seccomp profile is older than the image's C library",
        "update the container runtime of the node, or use an older image in engine.image",
    ),
    sign(
        r"Too many open files|\[Errno 24\]|ulimit -n",
        "ProcessLimit",
        "the container may not open more files",
        "raise the node's limit of open files (LimitNOFILE of the container runtime), or lower maxConcurrentSequences",
    ),
    sign(
        r"\[Errno 12\]|Cannot allocate memory|^MemoryError(?:$|: (?:Unable to allocate|bad allocation|std))"
        r"|std::bad_alloc|DefaultCPUAllocator: (?:can't|not enough)|\b[1-9]\d* Workers? .{0,40}killed due to memory pressure"
        r"|exceeds the memory usage threshold|Ray killed this worker because"
        r"|oom-kill|Out of memory: Killed process|Memory cgroup out of memory|OOM[ -]?killer"
        r"|ray\.exceptions\.OutOfMemoryError|due to the node running low on memory|memory usage.{0,40}above the threshold"
        r"|cudaHostAlloc\S* failed|Failed to (?:allocate|pin) (?:host|CPU|pinned) memory|not enough memory: you tried to alloc"
        r"|A worker died or was killed.{0,60}(?:memory|OOM)",
        "HostMemoryExhausted",
        "the memory of the container or the node was exhausted, not the GPU's",
        "raise resources.limits.memory (sharedMemory counts against it)",
    ),
    sign(
        r"No space left on device|\[Errno 28\]|Disk quota exceeded|\[Errno 122\]|not enough (?:free )?disk space"
        r"|file system is full",
        "DiskFull",
        "the pod's volume is full",
        "give the claim of cache more room, or serve from model.persistentVolumeClaim",
    ),
    sign(
        r"(?i)address already in use|\[Errno 98\]|EADDRINUSE|port \d+ is already in use",
        "PortInUse",
        "the port is taken inside the pod's network",
        "remove the port from engine.extraArgs; look for hostNetwork or a sidecar on the port",
    ),
    sign(
        r"KeyboardInterrupt: terminated|startup probe failed|Timed out waiting for (?:new )?engine (?:core processes to start|to send initial message)"
        r"|Timed out waiting for engines? (?:core|to (?:start|send))",
        "StartupTimeout",
        "the kubelet ended the engine before it was ready",
        "raise startupTimeoutSeconds",
        rank=SYMPTOM,
    ),
)

COMMAND_LINE: tuple[Signature, ...] = (
    sign(
        r"error: unrecognized arguments: (.+)|error: ambiguous option: (\S+)|[Nn]o such option:? (\S+)",
        "UnknownArgument",
        "the image's engine does not know {0}",
        AGREE,
    ),
    sign(r"error: argument (.+)", "InvalidArgument", "the image's engine does not take argument {0}", AGREE),
)
