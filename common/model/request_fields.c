/* SPDX-License-Identifier: Apache-2.0 */
/* The table of plain request fields, by why each is harmless.
 *
 * A field belongs here when, at every provider that is known to take it, each token costs the same
 * with it and without, and the answer stays within max_tokens and the prompt within its bytes.
 * Left out on purpose, because that is not so (a model's price may list them, see price_guard):
 *   other names of max_tokens: n_predict, num_predict, max_new_tokens, max_output_tokens, options
 *   more answers than one: best_of, use_beam_search, num_beams, n_cmpl
 *   other models, hosts or tiers: models, route, provider, priority, speed, inference_geo
 *   what is billed apart: plugins, search_parameters, data_sources, guardrails, safety_model
 *   cache writes: cache_control;  thinking at a price of its own: enable_thinking, thinking_budget
 *   text beyond the request's bytes: chat_template (may repeat itself), documents, prompt_mode
 *   all that is opaque: extra_body, vllm_xargs, nvext, logits_processors
 * Those that are priced by their value (service_tier, tools, modalities, ...) are request_facts'.
 */
#include "common/model/request_fields.h"

#include <stddef.h>
#include <string.h>

#include "common/base/str.h"

static const char *const plain[] = {
    /* What is asked: its length is bounded by the request's own bytes; n is 1 or refused. */
    "model",
    "messages",
    "n",
    "functions",
    "function_call",
    "tool_choice",
    "parallel_tool_calls",

    /* How long the answer may get: the first two are what is reserved, the rest only shortens it,
     * or makes it as long as they allow. */
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "include_stop_str_in_output",
    "no_stop_trim",
    "truncate_prompt_tokens",
    "context_length_exceeded_behavior",
    "t_max_predict_ms",

    /* OpenAI's sampling: which token comes next, each at the same price. */
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "random_seed", /* Mistral's name of it */

    /* Sampling of vLLM, SGLang, llama.cpp, Ollama and of who hosts them. */
    "top_k",
    "top_a",
    "min_p",
    "min_keep",
    "typical_p",
    "tfs_z",
    "top_n_sigma",
    "repetition_penalty",
    "repeat_penalty",
    "repeat_last_n",
    "penalize_nl",
    "length_penalty",
    "allowed_token_ids",
    "bad_words",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "dynatemp_range",
    "dynatemp_exponent",
    "xtc_probability",
    "xtc_threshold",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "samplers",

    /* The answer's form: schemas and grammars are in the request's bytes, and choose among tokens.
     */
    "response_format",
    "verbosity",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_whitespace_pattern",
    "guided_decoding_backend",
    "structured_outputs",
    "structural_tag",
    "json_schema",
    "grammar",
    "regex",
    "ebnf",
    "tool_prompt",

    /* Thinking: its tokens are output at the price of output, within the same maximum. */
    "reasoning_effort",
    "thinking", /* Anthropic's, DeepSeek's: the budget is below max_tokens */

    /* The server's own template of the chat: a few tokens, which the overheads hold. */
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template_kwargs",
    "safe_prompt", /* Mistral's preamble */

    /* What is told of the answer: more is said of the same tokens. */
    "stream",
    "stream_options",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "n_probs",
    "post_sampling_probs",
    "return_tokens_as_token_ids",
    "return_token_ids",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "include_reasoning",
    "reasoning_format",
    "separate_reasoning",
    "stream_reasoning",
    "timings_per_token",
    "usage", /* {"include": true} */

    /* Labels, and where a cached prompt is looked for: hits make it cheaper, misses cost as ever.
     */
    "user",
    "safety_identifier",
    "metadata",
    "store",
    "request_id",
    "prompt_cache_key",
    "prompt_cache_retention",
    "cache_prompt",
    "cache_salt",
    "id_slot",
};

enum { PLAIN_COUNT = sizeof(plain) / sizeof(plain[0]) };

bool request_field_is_plain(const char *name)
{
    for (size_t i = 0; i < PLAIN_COUNT; i++)
        if (strcmp(plain[i], name) == 0)
            return true;
    return false;
}

const char *request_field_nearest(const char *name)
{
    return str_nearest(name, plain, PLAIN_COUNT);
}
