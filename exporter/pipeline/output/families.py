"""The table of model families: how each fences off reasoning and writes tool calls.

A family is one row and its sample; tests/exporter/pipeline/output/test_families.py splits every sample. gpt-oss is
not here: its channels are no fences (harmony.py). Where a marker counts is decided in splitter.py.

Sources: "template" is the model's chat template, "vLLM" and "SGLang" their parsers, "llama.cpp" its common/chat and
models/templates, "LM Studio" its documentation.
"""

from __future__ import annotations

from typing import Final

import msgspec

from exporter.pipeline.output import call_names as names
from exporter.pipeline.output.call_names import NameReader


class ReasoningTag(msgspec.Struct, frozen=True):
    """One pair of texts around reasoning."""

    open: str
    close: str
    control: bool = False
    """A control token of the model, which prose never contains: it opens a block in mid answer too."""
    at_start: bool = False
    """Words, not a token: it opens a block only where a block may begin."""


class ToolTag(msgspec.Struct, frozen=True):
    """One way to write tool calls."""

    open: str
    follows: str
    """Regular expression, bounded, of what must follow for it to be a call and not a mention of the marker."""
    close: str | None
    """None: the call runs until the next one or the end of the output."""
    names: NameReader = names.any_shape
    at_start: bool = False
    """No token opens the call, only its shape: it counts only where a block may begin, and belongs to the call."""


class Family(msgspec.Struct, frozen=True):
    """One row of the table."""

    name: str
    source: str
    sample: str
    """An output in this shape."""
    calls: tuple[str, ...] = ()
    """The tools called in the sample."""
    thought: str = ""
    """The reasoning in the sample."""
    reasoning: ReasoningTag | None = None
    tool: ToolTag | None = None


def _thinks(name: str, source: str, tag: ReasoningTag) -> Family:
    return Family(name, source, f"{tag.open}hm{tag.close}42", thought="hm", reasoning=tag)


def _calls(name: str, source: str, tag: ToolTag, sample: str, *calls: str) -> Family:
    return Family(name, source, sample, calls=calls, tool=tag)


_JSON: Final = r"\s{0,8}[\[{]"
_INVOKE: Final = r"\s{0,8}<[\w:]{0,24}invoke name="

REASONING_FAMILIES: Final = (
    _thinks("Qwen3, QwQ, DeepSeek-R1, GLM-4.5, MiniMax-M2, Nemotron, Hunyuan, SmolLM3, ERNIE 4.5",
            "templates; default of LM Studio's llm.prediction.reasoning.parsing", ReasoningTag("<think>", "</think>")),
    _thinks("Ministral-3 Reasoning, Magistral 2507+", "template", ReasoningTag("[THINK]", "[/THINK]", control=True)),
    _thinks("Seed-OSS", "template", ReasoningTag("<seed:think>", "</seed:think>", control=True)),
    _thinks("Gemma 4", "template", ReasoningTag("<|channel>thought", "<channel|>", control=True)),
    _thinks("EXAONE Deep", "template", ReasoningTag("<thought>", "</thought>")),
    _thinks("Marco-o1", "model card", ReasoningTag("<Thought>", "</Thought>")),
    _thinks("Reka Flash 3", "template", ReasoningTag("<reasoning>", "</reasoning>")),
    _thinks("Kimi-VL Thinking", "template", ReasoningTag("◁think▷", "◁/think▷", control=True)),
    _thinks("Command A Reasoning, Command R7B", "template; llama.cpp",
            ReasoningTag("<|START_THINKING|>", "<|END_THINKING|>", control=True)),
    _thinks("Apertus", "template; llama.cpp", ReasoningTag("<|inner_prefix|>", "<|inner_suffix|>", control=True)),
    _thinks("Granite 3.2", "vLLM granite_reasoning_parser",
            ReasoningTag("Here is my thought process:", "Here is my response:", at_start=True)),
    _thinks("Granite 3.2, the other wording", "vLLM granite_reasoning_parser",
            ReasoningTag("Here's my thought process:", "Here's my response:", at_start=True)),
    _thinks("OpenThinker, Sky-T1", "model cards",
            ReasoningTag("<|begin_of_thought|>", "<|end_of_thought|>", control=True)),
    _thinks("LongCat Flash", "template", ReasoningTag("<longcat_think>", "</longcat_think>", control=True)),
    _thinks("Apriel 1.5, 1.6", "template; llama.cpp models/templates",
            ReasoningTag("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", at_start=True)),
    _thinks("Reflection 70B", "model card", ReasoningTag("<thinking>", "</thinking>")),
    _thinks("Hermes 2, 3", "model card", ReasoningTag("<scratch_pad>", "</scratch_pad>")),
    _thinks("HyperCLOVA X SEED Think", "vLLM hyperclovax_seed_think_14b_reasoning_parser",
            ReasoningTag("/think\n", "<|im_end|>\n<|im_start|>assistant", at_start=True)),
    _thinks("Solar Open", "template", ReasoningTag("<|think|>", "<|end|>", at_start=True)),
)  # fmt: skip

TOOL_FAMILIES: Final = (
    _calls("Hermes, Qwen, Qwen3-Coder, GLM-4.5, EXAONE 4, Granite 3.3, ERNIE 4.5, MiMo, Step 3.5", "templates; vLLM",
           ToolTag("<tool_call>",
                   r"\s{0,8}(?:[\[{]|<function=|[\w .:-]{1,64}\s{0,4}(?:<arg_key>|<tool_sep>|<code>|</tool_call>))",
                   "</tool_call>"),
           '<tool_call>\n{"name": "get weather", "arguments": {"name": "x"}}\n{"name": "b", "arguments": {}}\n'
           "</tool_call>",
           "get weather", "b"),
    _calls("Seed-OSS", "template", ToolTag("<seed:tool_call>", r"\s{0,8}<function=", "</seed:tool_call>"),
           "<seed:tool_call>\n<function=f>\n<parameter=a>1</parameter>\n</function>\n</seed:tool_call>", "f"),
    _calls("Gemma 4", "template", ToolTag("<|tool_call>", r"call:", "<tool_call|>", names.gemma_names),
           "<|tool_call>call:f{a:1}<tool_call|>", "f"),
    _calls("FunctionGemma", "template; Google's function-calling guide",
           ToolTag("<start_function_call>", r"call:", "<end_function_call>", names.gemma_names),
           "<start_function_call>call:f{a:<escape>x<escape>}<end_function_call>", "f"),
    _calls("Mistral", "vLLM mistral_tool_parser: JSON up to tokenizer v7, name{ or name[CALL_ID]id[ARGS]{ later",
           ToolTag("[TOOL_CALLS]",
                   r"\s{0,4}(?:\[\s{0,4}\{|[\w .:-]{1,64}\s{0,4}(?:\[(?:ARGS|CALL_ID)\]|\{))", None),
           '[TOOL_CALLS]f[ARGS]{"a": 1}', "f"),
    _calls("Llama 3.1", "Llama 3.1 prompt format", ToolTag("<|python_tag|>", "", None, names.python_tag_names),
           '<|python_tag|>brave_search.call(query="x")', "brave_search"),
    _calls("LM Studio's default format", "LM Studio, Tool Use",
           ToolTag("[TOOL_REQUEST]", r"\s{0,8}\{", "[END_TOOL_REQUEST]"),
           '[TOOL_REQUEST]{"name": "f", "arguments": {}}[END_TOOL_REQUEST]', "f"),
    _calls("MiniMax M2, M3", "template; vLLM minimax_m2_tool_parser",
           ToolTag("<minimax:tool_call>", _INVOKE, "</minimax:tool_call>", names.invoke_names),
           '<minimax:tool_call>\n<invoke name="f">\n<parameter name="a">1</parameter>\n</invoke>\n'
           '<invoke name="g">\n</invoke>\n</minimax:tool_call>', "f", "g"),
    _calls("Hunyuan A13B, MiniMax M1, Jamba", "vLLM hunyuan_a13b, minimax and jamba tool parsers",
           ToolTag("<tool_calls>", _JSON, "</tool_calls>", names.json_names),
           '<tool_calls>[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]</tool_calls>', "f", "g"),
    _calls("Kimi K2", "vLLM kimi_k2_tool_parser",
           ToolTag("<|tool_calls_section_begin|>", "", "<|tool_calls_section_end|>", names.kimi_names),
           '<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"a": 1}'
           "<|tool_call_end|><|tool_call_begin|>functions.g:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
           "<|tool_calls_section_end|>", "f", "g"),
    _calls("Kimi K2, the other spelling", "vLLM kimi_k2_tool_parser",
           ToolTag("<|tool_call_section_begin|>", "", "<|tool_call_section_end|>", names.kimi_names),
           "<|tool_call_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}"
           "<|tool_call_end|><|tool_call_section_end|>", "f"),
    _calls("Kimi K2, without a section", "vLLM kimi_k2_tool_parser",
           ToolTag("<|tool_call_begin|>", "", "<|tool_call_end|>", names.kimi_names),
           "<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}<|tool_call_end|>", "f"),
    _calls("DeepSeek V3, V3.1, R1-0528", "templates; vLLM deepseekv3 and deepseekv31 tool parsers",
           ToolTag("<｜tool▁calls▁begin｜>", "", "<｜tool▁calls▁end｜>", names.deepseek_names),
           "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜>"
           "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>", "f", "g"),
    _calls("DeepSeek V3, without a section", "llama.cpp",
           ToolTag("<｜tool▁call▁begin｜>", "", "<｜tool▁call▁end｜>", names.deepseek_names),
           "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>", "f"),
    _calls("DeepSeek V3.2", "vLLM deepseekv32_tool_parser",
           ToolTag("<｜DSML｜function_calls>", "", "</｜DSML｜function_calls>", names.invoke_names),
           '<｜DSML｜function_calls>\n<｜DSML｜invoke name="f">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>', "f"),
    _calls("DeepSeek V4", "template", ToolTag("<｜DSML｜tool_calls>", "", "</｜DSML｜tool_calls>", names.invoke_names),
           '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="f">\n</｜DSML｜invoke>\n'
           '<｜DSML｜invoke name="g">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>', "f", "g"),
    _calls("Hunyuan 3", "template; vLLM hy_v3_tool_parser",
           ToolTag("<tool_calls>", r"\s{0,8}<tool_call>", "</tool_calls>", names.separated_names),
           "<tool_calls>\n<tool_call>f<tool_sep>\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>\n"
           "<tool_call>g<tool_sep></tool_call>\n</tool_calls>", "f", "g"),
    _calls("Step 3", "vLLM step3_tool_parser",
           ToolTag("<｜tool_calls_begin｜>", "", "<｜tool_calls_end｜>", names.step_names),
           '<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="f">'
           "</steptml:invoke><｜tool_call_end｜><｜tool_calls_end｜>", "f"),
    _calls("LFM2", "template; llama.cpp",
           ToolTag("<|tool_call_start|>", "", "<|tool_call_end|>", names.python_or_json_names),
           '<|tool_call_start|>[f(city="a, g(b)"), g(x=h(1))]<|tool_call_end|>', "f", "g"),
    _calls("Nemotron Nano v2", "template; vLLM plugin of the model's repository",
           ToolTag("<TOOLCALL>", _JSON, "</TOOLCALL>", names.json_names),
           '<TOOLCALL>[{"name": "f", "arguments": {}}]</TOOLCALL>', "f"),
    _calls("Phi-4-mini", "template", ToolTag("<|tool_call|>", _JSON, "<|/tool_call|>", names.json_names),
           '<|tool_call|>[{"name": "f", "arguments": {}}]<|/tool_call|>', "f"),
    _calls("Phi-4-mini, Firefunction v2", "vLLM phi4mini_tool_parser; llama.cpp",
           ToolTag("functools[", r"\s{0,4}\{", None, names.json_names, at_start=True),
           'functools[{"name": "f", "arguments": {}}]', "f"),
    _calls("Granite 20B function calling", "vLLM granite_20b_fc_tool_parser",
           ToolTag("<function_call>", r"\s{0,8}\{", None, names.json_names),
           '<function_call> {"name": "f", "arguments": {}}', "f"),
    _calls("Command A, Command R7B", "template; llama.cpp",
           ToolTag("<|START_ACTION|>", _JSON, "<|END_ACTION|>", names.json_names),
           '<|START_ACTION|>[\n{"tool_call_id": "0", "tool_name": "f", "parameters": {}}\n]<|END_ACTION|>', "f"),
    _calls("Apertus", "template; llama.cpp", ToolTag("<|tools_prefix|>", _JSON, "<|tools_suffix|>", names.key_names),
           '<|tools_prefix|>[{"f": {"a": 1}}, {"g": {}}]<|tools_suffix|>', "f", "g"),
    _calls("InternLM 2, Intern-S1", "vLLM internlm2_tool_parser",
           ToolTag("<|action_start|>", r"\s{0,4}<\|plugin\|>", "<|action_end|>", names.json_names),
           '<|action_start|><|plugin|>\n{"name": "f", "parameters": {}}<|action_end|>', "f"),
    _calls("InternLM 2, Intern-S1, code", "chat format of InternLM",
           ToolTag("<|action_start|>", r"\s{0,4}<\|interpreter\|>", "<|action_end|>", names.python_code),
           "<|action_start|><|interpreter|>\nprint(1)<|action_end|>", "python"),
    _calls("Olmo 3", "vLLM olmo3_tool_parser",
           ToolTag("<function_calls>", r"\s{0,8}[A-Za-z_][\w.]{0,63}\(", "</function_calls>", names.pythonic_names),
           '<function_calls>\nf(a="x")\ng()\n</function_calls>', "f", "g"),
    _calls("models that imitate Claude", "published outputs",
           ToolTag("<function_calls>", _INVOKE, "</function_calls>", names.invoke_names),
           '<function_calls>\n<invoke name="f">\n</invoke>\n</function_calls>', "f"),
    _calls("LongCat Flash", "vLLM longcat_tool_parser",
           ToolTag("<longcat_tool_call>", r"\s{0,8}\{", "</longcat_tool_call>"),
           '<longcat_tool_call>\n{"name": "f", "arguments": {}}\n</longcat_tool_call>', "f"),
    _calls("LongCat Flash, keys and values", "template",
           ToolTag("<longcat_tool_call>", r"\s{0,8}[\w.:-]{1,64}\s{0,4}<(?:longcat_arg_key|/longcat_tool_call)>",
                   "</longcat_tool_call>", names.word_name),
           "<longcat_tool_call>f\n<longcat_arg_key>a</longcat_arg_key>\n<longcat_arg_value>1</longcat_arg_value>\n"
           "</longcat_tool_call>", "f"),
    _calls("MiniCPM 5", "template", ToolTag('<function name="', r'[\w .:-]{1,64}"', "</function>", names.quoted_name),
           '<function name="f"><param name="a">1</param></function>', "f"),
    _calls("MiroThinker and others that write MCP calls", "template",
           ToolTag("<use_mcp_tool>", r"\s{0,8}<server_name>", "</use_mcp_tool>", names.mcp_names),
           "<use_mcp_tool>\n<server_name>s</server_name>\n<tool_name>f</tool_name>\n<arguments>\n{}\n</arguments>\n"
           "</use_mcp_tool>", "f"),
    _calls("HyperCLOVA X SEED Think", "vLLM hyperclovax_seed_think_14b_tool_parser",
           ToolTag("-> tool/function_call\n", r"\s{0,8}\[", "<|im_end|>", names.json_names, at_start=True),
           '-> tool/function_call\n[{"name": "f", "arguments": {}}]<|im_end|>', "f"),
    _calls("Llama 4, nanochat", "tokenizers", ToolTag("<|python_start|>", "", "<|python_end|>", names.python_code),
           '<|python_start|>[f(city="x")]<|python_end|>', "f"),
    _calls("Gemma 3", "Google's function-calling guide",
           ToolTag("```tool_code\n", "", "```", names.pythonic_names, at_start=True),
           '```tool_code\nf(city="x")\n```', "f"),
    _calls("Command R, R+", "template: tool_use",
           ToolTag("Action: ```json", r"\s{0,8}\[", "```", names.json_names, at_start=True),
           'Action: ```json\n[\n    {\n        "tool_name": "f",\n        "parameters": {}\n    }\n]```', "f"),
    _calls("Qwen2.5-Coder", "published outputs: it repeats the tag of its prompt",
           ToolTag("<tools>", r'\s{0,8}\{\s{0,2}"name"', "</tools>", names.json_names),
           '<tools>\n{"name": "f", "arguments": {}}\n</tools>', "f"),
    _calls("Solar Open", "template",
           ToolTag("<|tool_calls|>", r"\s{0,8}<\|tool_call:begin\|>", None, names.solar_names),
           "<|tool_calls|><|tool_call:begin|>1<|tool_call:name|>f<|tool_call:args|>{}<|tool_call:end|>", "f"),
    _calls("GigaChat 3", "vLLM gigachat3_tool_parser",
           ToolTag("function call", r"<\|role_sep\|>", None, names.json_names, at_start=True),
           'function call<|role_sep|>\n{"name": "f", "arguments": {}}', "f"),
    _calls("Qwen3-Coder and Llama 3 without a wrapper", "llama.cpp",
           ToolTag("<function=", r"[\w .:-]{1,64}>", "</function>", names.function_name),
           "<function=f>\n<parameter=a>\n1\n</parameter>\n</function>", "f"),
    _calls("Llama 3.x, bare JSON", "llama.cpp; vLLM llama_tool_parser",
           ToolTag("{", r'\s{0,2}(?:"type"\s?:\s?"function"\s?,\s?)?"name"\s{0,2}:\s{0,2}"[^"\\]{1,48}"\s{0,2},'
                   r'\s{0,2}"(?:parameters|arguments)"', None, names.json_names, at_start=True),
           '{"name": "f", "parameters": {"a": {"b": 1}}}', "f"),
    _calls("xLAM and others, a bare JSON list", "vLLM xlam_tool_parser",
           ToolTag("[", r'\s{0,2}\{\s{0,2}"name"\s{0,2}:\s{0,2}"[^"\\]{1,48}"\s{0,2},'
                   r'\s{0,2}"(?:parameters|arguments)"', None, names.json_names, at_start=True),
           '[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]', "f", "g"),
    _calls("Llama 4, pythonic", "vLLM llama4_pythonic_tool_parser",
           ToolTag("[", r"[A-Za-z_][\w.]{0,63}\((?:[A-Za-z_]\w{0,40}=|\)[,\]])", None, names.pythonic_names,
                   at_start=True),
           '[f(city="x"), g()]', "f", "g"),
)  # fmt: skip

FAMILIES: Final = (*REASONING_FAMILIES, *TOOL_FAMILIES)
REASONING_TAGS: Final = tuple(
    family.reasoning for family in REASONING_FAMILIES if family.reasoning is not None
)
TOOL_TAGS: Final = tuple(family.tool for family in TOOL_FAMILIES if family.tool is not None)
