# ruff: noqa: E501 - alternatives and lines of logs are quoted whole
"""Deaths for the model's files and the way to them, and what only says that something died.

What only one engine prints is in its code: tests/engines/test_death_texts.py names the versions. The texts of the hubs'
clients, transformers and safetensors are as those packages raise them and as public reports quote them.
"""

from __future__ import annotations

from llm_operator.engines.remedies import ANOTHER, EARLIER
from llm_operator.engines.signature import CODE, REFUSAL, SYMPTOM, WRAPPER, Signature, sign

_REFUSED = "change what it names in engine.extraArgs, in a field of this object, or in the files of model"
_NEWER = "use a newer engine.version, or correct the model's config.json"

MODEL: tuple[Signature, ...] = (
    sign(
        # LMDeploy 0.12 to 0.14 look up a name that is not a file in a list that lmdeploy/model.py does not have any longer.
        r"chat template (?:string \(|')/chat-template/template\.(?:jinja|json)"
        r"|cannot import name '(?:DEPRECATED|REMOVED)_CHAT_TEMPLATE_NAMES' from 'lmdeploy\.model'",
        "ChatTemplateMissing",
        "the ConfigMap of model.chatTemplate, or its key, does not exist in this namespace",
        "create the ConfigMap with that key, or name another one",
    ),
    sign(
        r"chat template (?:string )?\((?!/chat-template/)([^)]+)\) (?:looks like|appears)",
        "ChatTemplateMissing",
        "the image has no file {0}",
        "put the template into a ConfigMap and name it in model.chatTemplate, or correct --chat-template in engine.extraArgs",
    ),
    sign(
        # What config.json says of its positions changed its keys with transformers 4.43, 4.45 and 5.
        r"`?rope_(?:scaling|parameters)`?'? (?:field|must|dictionary|should)|KeyError: 'rope_\w+'"
        r"|^(?:AssertionError|KeyError: '\w+'): .{0,80}\brope_(?:scaling|parameters)\b",
        "ModelConfigInvalid",
        "the engine does not understand what config.json says of its rotary positions (rope_scaling, rope_parameters)",
        _NEWER,
    ),
    sign(
        r"^KeyError: '(\w+)': .{0,80}\b\w*config\w*(?:\.\w+)?\[",
        "ModelConfigInvalid",
        "the engine looks for {0} in config.json, which does not have it",
        _NEWER,
        rank=SYMPTOM,
    ),
    sign(
        r"execute the configuration file in that repo|contains custom code which must be executed"
        r"|requires you to execute the .{0,40}(?:file|code)|pass the argument `?trust_remote_code=True",
        "RemoteCodeNeeded",
        "the model's repository holds code that loading it needs",
        "read that code, then set model.trustRemoteCode to true",
    ),
    sign(
        r"GatedRepoError|Cannot access gated repo|Access to model \S+ is restricted|You are trying to access a gated repo",
        "ModelAccessDenied",
        "the hub does not give the model to this token",
        "accept the model's licence on the hub and name its token in model.credentials",
    ),
    sign(
        r"RevisionNotFoundError|Invalid rev id|is not a valid git identifier|Revision Not Found",
        "RevisionNotFound",
        "the hub has no such revision of the model",
        "correct the revision in model",
    ),
    sign(
        r"RepositoryNotFoundError|Repository Not Found|is not a valid model identifier listed on|(?<!EntryNotFoundError: )404 Client Error"
        r"|does not exist on (?:the hub|huggingface)|The requested model.{0,40}(?:not exist|not found)",
        "ModelNotFound",
        "the hub has no such repository, or hides it from this token (it then answers 401 too)",
        "correct the repository in model, or name a token in model.credentials",
    ),
    sign(
        r"401 Client Error|403 Client Error|401 Unauthorized|403 Forbidden|Invalid (?:user )?token|Token is required"
        r"|Invalid credentials in Authorization",
        "ModelAccessDenied",
        "the hub does not give the model to this token",
        "accept the model's licence on the hub and name its token in model.credentials",
        rank=SYMPTOM,
    ),
    sign(
        r"429 Client Error|HTTP(?: status)? 429|429 Too Many Requests|(?:huggingface|modelscope).{0,80}rate limit"
        r"|rate limit.{0,80}(?:huggingface|modelscope|HF_TOKEN)",
        "HubRateLimited",
        "the hub refuses further downloads for now",
        "name a token in model.credentials, or serve from model.persistentVolumeClaim",
    ),
    sign(
        r"LocalEntryNotFoundError|outgoing traffic has been disabled|OfflineModeIsEnabled|NameResolutionError"
        r"|Temporary failure in name resolution|Name or service not known|nodename nor servname|No address associated"
        r"|getaddrinfo failed|We couldn't connect to '?https?://|[Cc]onnection error, and we cannot find the requested files"
        r"|Cannot reach https?://|Network is unreachable|ConnectTimeout|ConnectTimeoutError|ReadTimeoutError"
        r"|Max retries exceeded with url|\[Errno 113\]|\[Errno 101\]|No route to host|CERTIFICATE_VERIFY_FAILED"
        r"|ProxyError|Could not resolve host|dns error|httpx\.Connect(?:Error|Timeout)|offline mode is enabled"
        r"|error occurred while downloading|CAS service error(?!.{0,200}No space)|CasObjectError|libstreamer due to: b'(?:File access|.{0,20}[Tt]ime)"
        r"|(?:huggingface\.co|modelscope\.cn).{0,120}(?:[Cc]onnection refused|timed out)"
        r"|HubHTTPError: 5\d\d |\b5\d\d Server Error.{0,60}for url: https?://[^/]*(?:huggingface|modelscope|\bhf)\.",
        "ModelNotReachable",
        "the model is not on the pod's volume and the hub cannot be reached",
        "check the pod's way to the hub (HF_ENDPOINT, HTTPS_PROXY in engine.env), or serve from model.persistentVolumeClaim",
    ),
    sign(
        r"Repo id must (?:be in the form|use alphanumeric).*?: '([^']*)'|HFValidationError"
        r"|(?:model|path|AssertionError:) '?(/\S+?)'? (?:does not exist|is not a (?:directory|valid))",
        "ModelPathMissing",
        "there is no directory {0} in the pod",
        "correct model.persistentVolumeClaim.path: it names a directory on the claim",
    ),
    sign(
        r"Could not find model architecture from config|does not appear to have a file named config\.json"
        r"|Invalid repository ID or local directory|config\.json' ?(?:is missing|not found|does not exist)"
        r"|No such file or directory: '?(?:\S*/)?config\.json|Can't load the configuration of|It looks like the config file at"
        r"|should have a `?model_type`? key|Unrecognized model in|EntryNotFoundError|No supported config format found",
        "ModelConfigMissing",
        "the model's directory holds no usable config.json",
        "correct model.persistentVolumeClaim.path, or the files on the claim",
    ),
    sign(
        r"No such file or directory:? '?(\S+\.(?:safetensors|bin|gguf|pt|pth))|Cannot find any (?:safetensors )?model weights"
        r"|no file named .{0,60}(?:pytorch_model|model\.safetensors)|weights were not initialized from"
        r"|Could not find checkpoint files|Error no file named|Can't load the model for|doesn't have any device set",
        "WeightsMissing",
        "a file of the weights, or a tensor in them, is missing",
        "download the model again, or correct its source in model",
    ),
    sign(
        r"(?:Permission denied|PermissionError\(13).{0,20}'?/models/|SafetensorError.*Permission denied"
        r"|Permission denied: '?\S{1,200}\.(?:safetensors|bin|gguf|pt|pth)\b",
        "ModelNotReadable",
        "the container's user may not read a file of the model",
        "make the files of the claim in model.persistentVolumeClaim readable for every user: chmod -R a+rX",
    ),
    sign(
        r"SafetensorError|file not fully covered|incomplete metadata|InvalidHeader|HeaderTooLarge|HeaderTooSmall"
        r"|MetadataIncompleteBuffer|PytorchStreamReader failed|invalid header or archive|unpickling stack underflow"
        r"|invalid load key|git-lfs\.github\.com|gguf.{0,40}(?:magic|corrupt)|Consistency check failed"
        r"|weights_only=True`{0,2} with files saved in",
        "WeightsCorrupt",
        "a file of the weights is cut short or damaged",
        "download the model again, or correct its source in model",
    ),
    sign(
        # It names as supported what it refuses, or what every version has: a module of the image could not be imported.
        r"Model architectures \['(\w+)'\] are not supported for now\. Supported architectures: .{0,800}'\1'"
        r"|Model architectures \['((?:Llama|Mistral|Qwen2|Gemma|OPT)ForCausalLM|GPT2LMHeadModel)'\] are not supported for now",
        "PackageMismatch",
        "the engine has this architecture and cannot import its code: packages of the image do not go together",
        "use the engine project's own image of that version in engine.image",
    ),
    sign(
        r"Can not found rewrite for architectures: (\[[^\]]*\])"
        r"|model type `([^`]+)` but Transformers does not recognize"
        r"|KeyError: '(\w+For(?:CausalLM|ConditionalGeneration))'|(?:architecture|model|arch) '?([\w./\-]+)'? is not supported (?:by|yet|for now)"
        r"|turbomind does not support (\S+)\. |has no vLLM implementation|Unknown gguf model_type: (\S+)|[Ff]ailed to map GGUF parameters|does not (?:recognize|support) this architecture|Unsupported model architecture:? (\S+)"
        r"|^ValueError: Architecture '?(\w+)'? (?:is )?not supported|^AssertionError: '?([\w./-]+)'? is not supported\. The supported models|unsupported model (?:arch|type)\S* (\S+)|Unrecognized configuration class|AttributeError: Model \S+ does not suppo",
        "UnsupportedArchitecture",
        "the engine does not know the model's architecture {0}",
        "use a newer engine.version or the other engine",
    ),
    sign(
        # vLLM says it too where the architecture's module cannot be imported; the error of that import is logged before.
        r"Model architectures (\[[^\]]*\]) are not supported",
        "UnsupportedArchitecture",
        "the engine does not know the model's architecture {0}",
        "use a newer engine.version or the other engine",
        rank=SYMPTOM,
    ),
    sign(
        r"Model architectures (\[[^\]]*\]) failed to be inspected",
        "UnsupportedArchitecture",
        "the engine cannot read the model's architecture {0}",
        "use a newer engine.version or the other engine",
        rank=REFUSAL,
    ),
    sign(
        r"'dict' object has no attribute '(?:num_\w+|hidden_size|architectures|model_type|vocab_size|text_config)'"
        r"|'(\w*Config)' object has no attribute",
        "UnsupportedArchitecture",
        "the engine cannot read the model's architecture {0}",
        "use a newer engine.version or the other engine",
        rank=SYMPTOM,
    ),
    sign(
        r"[Tt]ried to load weights of size|size mismatch for \S+: copying|\) exceeds dimension size \(|Attempted to load weight .{0,40}into parameter"
        r"|[Ll]oaded weight.{0,60}shape|param_data\.shape",
        "WeightsMismatch",
        "the weights do not go with config.json, or cannot be split like this: sizes of tensors differ from what the engine expects",
        "use a newer engine.version, another parallelism.tensor if it is above 1, or weights of another repository in model",
    ),
    sign(
        r"There is no module or parameter named|^KeyError: '(?![\w.]{1,200}\.(?:\w{0,20}attn|mixer|mlp|experts)')(?:model\.|lm_head|layers\.|language_model|visual|transformer)"
        r"|^KeyError: '(?![\w.]{1,200}\.(?:\w{0,20}attn|mixer|mlp|experts)')(?=[\w.]{3,200}')\w+\.(?:[\w.]*\.)?(?:\d{1,3}\.[\w.]+|\w*(?:weight|bias|scales?|zeros|g_idx|absmax)\w*)'"
        r"|weights? of the model .{0,40}not initialized|Following weights were not (?:initialized|loaded)",
        "WeightsMismatch",
        "the weights do not go with config.json: names of tensors differ from what the engine expects",
        "use a newer engine.version, or weights of another repository in model",
    ),
    sign(
        r"validation errors? for (?:EngineArgs|\w+Config)\b|^(?:Value error|Assertion failed), (.{1,200}?)(?: \[type=|$)",
        "ModelConfigInvalid",
        "the engine refuses its configuration: {0}",
        _REFUSED,
        rank=REFUSAL,
    ),
)

VOCABULARY: tuple[Signature, ...] = (
    sign(
        r"HarmonyError: error downloading|vocab(?:ulary)? file.{0,40}(?:download|load)|tiktoken.{0,80}(?:download|https?://)"
        r"|openaipublic\.blob\.core\.windows\.net",
        "VocabularyMissing",
        "the vocabulary of gpt-oss is read from the network and cannot be reached",
        "put the vocabulary files on the model's volume and set TIKTOKEN_ENCODINGS_BASE in engine.env to their directory",
    ),
)

# Of any package: the words say which setting, and the package's code checks it before it does anything.
_SPOKEN = r"^(?:[\w.]{0,80}\b(?:ValueError|NotImplementedError|AssertionError|RuntimeError)|Value error|Assertion failed)[:,] "
_SETTING = (
    r"(?:--[a-z][a-z-]{2}|[`'\"]?\b[a-z]{2,20}_[a-z0-9_]{2,40}\b|\b\w{2,20}=(?![=\d])|\b[A-Z]{2,20}_[A-Z0-9_]{2,40}\b)"
)
_RULE = (
    r"\b(?:must|should|cannot|can not|can't|can only|exceeds?|greater|larger|less|smaller|higher|lower|longer|incompatible"
    r"|mutually exclusive|at least|at most|only (?:supports?|works?|allowed|valid|be)|not allowed|is required|requires?"
    r"|[Ee]xpected|conflicts?|inconsistent|[Ss]et [A-Z_]+=)\b"
)
REFUSED_SETTING = "the engine refuses a setting: {0}"
"""What names the setting, or what it takes instead, knows more than the words that stand beside it."""
REFUSALS: tuple[Signature, ...] = (
    sign(
        _SPOKEN.replace("|RuntimeError", "") + rf"(?=.{{0,400}}{_SETTING})(?=.{{0,400}}{_RULE})(.{{1,250}})",
        "SettingRefused",
        REFUSED_SETTING,
        _REFUSED,
        rank=REFUSAL,
    ),
    sign(
        _SPOKEN
        + r"(?=.{0,400}(?:\b(?:not|never)\b|n't\b).{0,40}\bsupport|.{0,400}\b(?:[Uu]nsupported|only (?:be )?supported"
        r"|cannot be (?:used|combined|enabled)|not (?:yet )?(?:implemented|compatible))\b)(.{1,250})",
        "SettingRefused",
        "the engine does not support what it should do: {0}",
        "change or remove what it names in engine.extraArgs or in a field of this object, or use another engine.version",
        rank=REFUSAL,
    ),
    sign(
        # What names a variable or an option, and what to do with it, is about that.
        r"^(?:RuntimeError|FileNotFoundError|Exception): (?=.{0,400}(?:(?<![\w-])--[a-z][a-z-]{2}|\b(?:VLLM|LMDEPLOY|TM|CUDA|HF|RAY|TORCH|NCCL)_[A-Z_]{2,40}\b"
        rf"|kv_connector_extra_config|LogitsProcessor|identical configurations))(?=.{{0,400}}(?:{_RULE}|\b(?:is set|not set|[Ff]ailed to load|not found|mismatch|[Pp]ass|[Tt]ry|[Pp]lease|without|must be)\b))(.{{1,100}})",
        "SettingRefused",
        REFUSED_SETTING,
        _REFUSED,
        rank=REFUSAL,
    ),
    sign(
        # Of a value and not of a type: what checks settings says what it takes instead.
        r"^(?:[\w.]{0,80}\b(?:ValueError|NotImplementedError|VLLM\w*Error)|Value error|Assertion failed)[:,] "
        r"(?=.{0,400}\b(?:[Uu]nknown|[Ii]nvalid|[Uu]nrecognized|[Uu]nexpected (?:extra|value|type|key)|[Pp]lease (?:specify|provide|set|use|select|add|remove)"
        r"|[Vv]alid (?:options|values|modes|backends|\w+ are)|[Ss]upported (?:\w+ are|values|options|backends|\w+:)|deprecated|(?:was|been) removed|only (?:applicable|one|available|enabled|when|if|for)"
        r"|is not (?:allowed|a valid|compatible|available|enabled|recognized|set|registered)|out of range|mutually|Disable|Either|Cannot (?:use|set|run|specify|enable|combine)"
        r"|[Uu]nable to (?:use|find)|To (?:bypass|allow|disable|use)|[Cc]onsider|[Tt]ry (?:setting|increasing|reducing|lowering|using)|was not provided|not (?:specified|provided|found)|(?:in|de)creas(?:e|ing) \w+_\w+))(.{1,250})",
        "SettingRefused",
        REFUSED_SETTING,
        _REFUSED,
        rank=REFUSAL,
    ),
)


ENDS: tuple[Signature, ...] = (
    sign(
        r"^((?:AssertionError|TypeError|AttributeError|IndexError|KeyError|NameError|UnboundLocalError|ZeroDivisionError"
        r"|NotImplementedError|RecursionError)\b.{0,120})|(map::at)\b",
        "EngineCodeFailed",
        "the engine's own code failed: {0}",
        ANOTHER,
        rank=CODE,
    ),
    sign(
        # What PyTorch's operators say of tensors that the engine gives them.
        r"^((?:RuntimeError: (?:The size of tensor a|shape '\[|mat1 and mat2|expected scalar type|Expected all tensors|Sizes of tensors"
        r"|The expanded size|Tensors must have|[Ee]xpected (?:size|m?at|self|query|input)|stack expects|selected index k|probability tensor"
        r"|split_with_sizes|Index put requires|The shape of|CHECK_\w+\(|Expected .{1,120} to be true, but got false|out must have shape)"
        r"|ValueError: (?:not enough|too many) values to unpack).{0,120})",
        "EngineCodeFailed",
        "the engine's own code failed: {0}",
        ANOTHER,
        rank=CODE,
    ),
    sign(
        r"EngineDeadError|Engine loop failed|Engine main loop stopped|engine is dead"
        r"|EngineCore encountered an (?:fatal error|issue)|died unexpectedly, shutting down|EngineCore died unexpectedly",
        "EngineDied",
        "the engine's process died while it served",
        EARLIER,
        rank=WRAPPER,
    ),
)
