"""Chat templates (Jinja) for tiny random models, in the form that each family's instruction-tuned models use."""

# No system turn; the assistant is called model; a line break after every turn.
GEMMA = """{{ bos_token }}{% for message in messages -%}
{% if message.role == 'system' %}{{ raise_exception('there is no system turn') }}{% endif -%}
<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}
{{ message.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""

# ChatML: no beginning-of-text token; a line break after every turn.
QWEN = """{% for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# Qwen 2.5's template adds a default system turn to a conversation without one.
QWEN_WITH_DEFAULT_SYSTEM = (
    """{% if messages[0].role != 'system' %}<|im_start|>system
You are a small model.<|im_end|>
{% endif %}"""
    + QWEN
)

# A header and an empty line before every turn; no line break after it.
LLAMA3 = """{{ bos_token }}{% for message in messages -%}
<|start_header_id|>{{ message.role }}<|end_header_id|>

{{ message.content | trim }}<|eot_id|>
{%- endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""

# The system text begins the user's turn; the answer follows after a space, then the end-of-text token.
MISTRAL = """{{ bos_token }}{% set system = messages[0].content ~ '\n\n' if messages[0].role == 'system' else '' -%}
{% for message in messages if message.role != 'system' -%}
{% if message.role == 'user' %}[INST] {{ (system if loop.first else '') ~ message.content }}[/INST]
{%- else %} {{ message.content | trim }}{{ eos_token }}{% endif -%}
{% endfor %}"""
