# ruff: noqa: E501 - alternatives and lines of logs are quoted whole
"""What the classes and numbers of errors say by themselves: those of Python, of the system's calls and of the shell.

They stand after everything that knows the text, and are tried only in what a start ends with.
"""

from __future__ import annotations

from llm_operator.engines.signature import REFUSAL, SYMPTOM, WRAPPER, Signature, sign

_STORAGE = "look at the storage under the model's and the cache's volumes on this node (NFS, FUSE or CSI driver), or serve from another model.persistentVolumeClaim"
_FILES = r"(?:tokenizer|vocab|merges|special_tokens|added_tokens|preprocessor|processor|chat_template|spiece|tekken)"

SYSTEM: tuple[Signature, ...] = (
    sign(
        # A socket whose client has gone has the numbers of a mount that has gone, and no path.
        r"\[Errno (?:5|116|117|121)\]|Input/output error|Stale (?:NFS )?file handle|(?:Transport endpoint is not connected|Host is down): ?'?/"
        r"|Structure needs cleaning|Remote I/O error",
        "VolumeFailed",
        "a volume of the pod cannot be read or written",
        _STORAGE,
    ),
    sign(
        r"^!{2,9} ?Segfault encountered|^Fatal Python error: (?:Segmentation fault|Illegal instruction|Bus error)|^Segmentation fault\b|^SIGSEGV\b|\*\*\* SIG(?:SEGV|FPE|ILL) received|Caught signal 11\b",
        "EngineCrashed",
        "the engine crashed in machine code",
        "use another engine.version or engine.image",
        rank=REFUSAL,
    ),
    sign(
        r"exec format error",
        "ImageForOtherCPU",
        "the image is built for another kind of CPU than the node's",
        "use an image for the node's CPU in engine.image, or choose other nodes in nodeSelector",
    ),
    sign(
        r"(?:^|: |/)(vllm|lmdeploy|python3?)(?:: command)?:? not found$|No module named (vllm|lmdeploy)$|exec: \"?(\S{1,80})\"?: (?:executable file not found|stat .{1,80}no such file)"
        r"|can't open file '(\S+)': \[Errno 2\]",
        "PackageMissing",
        "the image lacks {0}",
        "use the engine project's own image in engine.image",
    ),
    sign(
        r"\[Errno 99\]|Cannot assign requested address|\[Errno 97\]|Address family not supported",
        "AddressNotAvailable",
        "the engine cannot bind or reach an address of its pod",
        "remove the address from engine.extraArgs, and VLLM_HOST_IP, GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME from engine.env",
    ),
)

_FORMAT = r"(?:NVFP4|MXFP[48]|(?<!_)\bFP8|\bfp8\b|INT8|AWQ|GPTQ|W\dA\d+|WNA16|[Mm]arlin|[Qq]uantiz\w+|[Cc]ompressed.[Tt]ensors|[Bb]its[Aa]nd[Bb]ytes|GGUF|[Mm]odel[Oo]pt|Quark|AutoRound|num_bits|weight_bits|group_size|block_quant\w*|desc_act)"
_NOT = r"(?:not (?:yet )?(?:support|implement|compatible|available|found)\w*|[Uu]nsupported|only (?:support\w*|works?|valid|available)|\bmust\b|requires?\b|[Ee]xpected|[Uu]nknown|[Ii]nvalid|cannot|can't|has been removed|No \w+ (?:scheme|kernel|backend|method|compatible)|does not match|mismatch|not divisible|[Ff]ailed)"

PYTHON: tuple[Signature, ...] = (
    sign(
        rf"^(?:[\w.]{{0,80}}\b(?:ValueError|NotImplementedError|AssertionError|RuntimeError|KeyError|TypeError|Exception|DeprecationWarning)|Value error|Assertion failed)[:,] (?=.{{0,300}}{_FORMAT})(?=.{{0,300}}{_NOT})(.{{1,100}})",
        "FormatMismatch",
        "the engine cannot run the format of these weights as it is configured: {0}",
        "use weights of another format in model, leave model.format at Auto, or use another engine.version",
        rank=REFUSAL,
    ),
    sign(
        r"^(?:[\w.]{0,80}Error|[\w.]{0,80}Exception): (?:.{0,120}\W)?(DeepGEMM|DeepEP|deep_ep|deep_gemm|FlashInfer|flashinfer|FlashMLA|flash_mla|flash.?attn\w*|FlashAttention|[Tt]riton|xgrammar|xformers|[Tt]ile[Ll]ang|cutlass\w*|nixl|NIXL|lmcache|LMCache|fastsafetensors|runai\w*|tensorizer|librosa|soundfile|decord|timm|av)\b.{0,60}(?:is required|required but|not (?:available|installed|found|importable)|unavailable|(?:is|was) missing)"
        r"|^ValueError: .{1,60} requires (Triton|FlashInfer)\.$",
        "PackageMissing",
        "the image lacks a package, or has one that does not work: {0}",
        "use an image that has it: engine.image, or another engine.version",
        rank=SYMPTOM,
    ),
    sign(
        rf"^(?!.{{0,400}}template\.jinja).{{0,400}}(?:No such file or directory:? '?\S{{0,300}}/{_FILES}[\w.]*\.(?:json|model|txt|jinja|py)\b|does not appear to have a file named {_FILES})"
        r"|could not parse ModelProto|sentencepiece_processor\.cc|vocab_file|^TypeError: not a string$|[Ff]ailed to load (?:the )?tokenizer|Can't load tokenizer"
        r"|(?:tokenizer|processor)\w*\.json.{0,60}(?:missing|not found|invalid|expected)|^(?:Exception|ValueError): (?:expected|invalid|missing|unknown|data did not) .{0,120} at line \d+ column \d+",
        "TokenizerMismatch",
        "the model's tokenizer or processor cannot be loaded",
        "download the model's tokenizer and processor again, or use another engine.version",
        rank=SYMPTOM,
    ),
    sign(
        r"^(?:_pickle\.|pickle\.)?UnpicklingError|^AttributeError: Can't get attribute '\w+' on <module|^EOFError|^zipfile\.BadZipFile|Unable to load weights from (?:pytorch )?checkpoint|unexpected EOF, expected \d+ more bytes"
        r"|[Ee]rror while deserializing|storage has wrong (?:byte )?size|^gguf\.|Bad magic|GGUF magic invalid|[Cc]hecksum mismatch|[Cc]orrupt(?:ed)? (?:file|checkpoint|weight|data)",
        "WeightsCorrupt",
        "a file of the weights is cut short or damaged",
        "download the model again, or correct its source in model",
        rank=REFUSAL,
    ),
    sign(
        r"^(?:FileNotFoundError|NotADirectoryError|IsADirectoryError): .{0,100}'(/models/\S{1,300})'"
        r"|does not appear to have a file named (?!tokeniz|process)(\w{1,100}\.py)\b",
        "FileMissing",
        "the model has no file {0}",
        "download the model again, or correct model.persistentVolumeClaim.path",
        rank=REFUSAL,
    ),
    sign(
        r"^FileNotFoundError: .{0,200}?(?:'|: )(/[^\s']{1,300})|File does not exist: (/\S{1,300})|[Ff]ailed to open file:? '?(/\S{1,300})|^(?:IsADirectoryError|NotADirectoryError): .{0,200}'(/\S{1,300})'",
        "FileMissing",
        "the engine finds no file {0}",
        "correct what names it in engine.extraArgs or engine.env, or mount it",
        rank=REFUSAL,
    ),
    sign(
        r"NoCredentialsError|^botocore\.\S+: .{0,80}\((?:401|403|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch)\)|DefaultCredentialsError",
        "ModelAccessDenied",
        "the object store does not give the model to these credentials",
        "set the store's credentials in engine.env, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    sign(
        r"^(?:requests\.exceptions|urllib3\.exceptions|http\.client|httpx|httpcore|aiohttp\.\w+|botocore\.exceptions|ssl|huggingface_hub\.\w+|modelscope\.\S+)\.?\w*(?:SSL|Connect|Read|Timeout|Protocol|Chunked|IncompleteRead|RemoteDisconnected|Endpoint|Network|RemoteProtocol)\w*"
        r"|^(?:http\.client\.)?(?:RemoteDisconnected|IncompleteRead)\b|Connection broken: IncompleteRead|SSLEOFError|SSL: [A-Z_]{3}",
        "ModelNotReachable",
        "the model is not on the pod's volume and the hub cannot be reached",
        "check the pod's way to the hub (HF_ENDPOINT, HTTPS_PROXY in engine.env), or serve from model.persistentVolumeClaim",
        rank=REFUSAL,
    ),
    sign(
        r"^(?:[\w.]+\.)?(?:TemplateSyntaxError|TemplateAssertionError|UndefinedError|TemplateNotFound): ",
        "ChatTemplateInvalid",
        "the chat template cannot be used",
        "correct the template of model.chatTemplate, or that in the model's tokenizer_config.json",
        rank=REFUSAL,
    ),
    sign(
        r"^(?:ray\.exceptions\.|ray\.)?(?:RayActorError|ActorDiedError|ActorUnavailableError|RayTaskError|WorkerCrashedError)\b|BrokenProcessPool\b"
        r"|^(?:ConnectionRefusedError|ConnectionResetError|BrokenPipeError|multiprocessing\.\S+Error|EOFError)\b|^_queue\.Empty|failed to recv, got 0 bytes|Connection (?:was likely closed|reset by peer|refused)",
        "EngineProcessDied",
        "a process of the engine lost the one that it speaks to",
        "see the first traceback of kubectl logs --previous, which has the cause",
        rank=WRAPPER,
    ),
)
