/* aperto.h - the public C interface of libaperto.
 *
 * The library opens a packed model, turns text into tokens and back, renders
 * chat templates and runs the engine: many requests at once, one step at a
 * time.  Everything that can fail returns an ap_status and, where the caller
 * passes one, fills an ap_error with one line that names field, value and limit.
 *
 * Nothing here prints, exits, opens a path or reads the environment: files
 * arrive as descriptors.  A handle belongs to one thread at a time.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef APERTO_H
#define APERTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AP_API __attribute__((visibility("default")))

/* The version of the arithmetic (docs/law.md).  Two programs with the same
 * number produce the same bits for the same model, prompt and seed. */
#define AP_LAW_VERSION 1

/* Every status, once.  Numbers are never reused. */
#define AP_STATUS_LIST(X)                                             \
    X(0, OK, "ok")                                                    \
    X(1, E_NOMEM, "out of memory")                                    \
    X(2, E_IO, "reading or writing failed")                           \
    X(3, E_FORMAT, "the file is not what it says it is")              \
    X(4, E_LIMIT, "a limit was exceeded")                             \
    X(5, E_UNSUPPORTED, "not supported")                              \
    X(6, E_ARG, "a value is not allowed")                             \
    X(7, E_FULL, "no room at the moment")                             \
    X(8, E_NOTFOUND, "not found")                                     \
    X(9, E_CANCELLED, "cancelled")                                    \
    X(10, E_CONTEXT, "the prompt is longer than the context")         \
    X(11, E_TEMPLATE, "the chat template refused")                    \
    X(12, E_NUMERIC, "a result is not a finite number")               \
    X(13, E_STATE, "not possible in this state")                      \
    X(14, E_WORKER, "the worker ended")                               \
    X(15, E_SANDBOX, "the sandbox could not be entered")              \
    X(16, E_INTEGRITY, "the bytes do not match their digest")         \
    X(17, E_BUG, "an internal error")

typedef enum ap_status {
#define X(number, name, text) AP_##name = number,
    AP_STATUS_LIST(X)
#undef X
} ap_status;

/* Detail of a failure, in storage of the caller; no allocation. */
typedef struct ap_error {
    ap_status status;
    char message[480]; /* one line, no newline, never empty after a failure */
} ap_error;

/* The fixed text of a status, "unknown status" for a number not in the list. */
AP_API const char *ap_status_text(ap_status status);

/* Told how far long work is; the total is known from the start. */
typedef void ap_progress(void *context, uint64_t done, uint64_t total);

/* Gives back what a function of this header allocated for the caller (text, ids). */
AP_API void ap_release(void *pointer);

/* ---- Import: from a stranger's file to a packed one ---------------------- */

/* What a model's chat template does with a conversation, found out by rendering small ones; bits. */
enum {
    AP_CHAT_KNOWN = 1,           /* there is a template, and it shows what a user says; without this bit no other */
    AP_CHAT_SYSTEM = 2,          /* a system message has its own place; else its text goes into the first user message */
    AP_CHAT_TOOLS = 4,           /* the tools that are offered are shown to the model */
    AP_CHAT_CALLS = 8,           /* and the form of its calls is one that is read; else requests with tools are refused */
    AP_CHAT_RESULTS = 16,        /* calls of earlier turns and their results are shown; else they are refused */
    AP_CHAT_REASONING = 32,      /* what the model thinks is told apart from its answer */
    AP_CHAT_BOS = 64,            /* a conversation begins with BOS, which the template writes */
    AP_CHAT_BOS_TWICE = 128,     /* which it writes twice */
    AP_CHAT_TOKENIZER_BOS = 256, /* the tokenizer puts BOS before plain text */
    AP_CHAT_ALL = 511
};

typedef struct ap_import_report {
    char architecture[64]; /* "llama" */
    char name[128];        /* general.name, or empty */
    char license[128];     /* general.license, or empty */
    char quantization[16]; /* the type most weights have: "Q4_1" */
    uint64_t parameter_count;
    uint64_t source_bytes, packed_bytes;
    uint32_t context_tokens;
    bool has_chat_template;
    uint32_t chat;       /* AP_CHAT_… */
    char chat_calls[32]; /* the form of the calls, read or not: "Hermes"; empty: none that is known */
    char notes[512]; /* what a user should know, sentences; may be empty */
} ap_import_report;

typedef struct ap_import_options {
    size_t size;               /* sizeof(ap_import_options) */
    const char *source_sha256; /* 64 hex digits, kept in the packed file */
    bool decode_to_f32;        /* weights are stored as f32: the exact float reference of a quantised model */
    ap_progress *progress;     /* may be NULL */
    void *progress_context;
} ap_import_options;

/* Reads a GGUF file from source_fd, checks all of it, and writes the packed form
 * to out_fd, an empty regular file opened for reading and writing.  Both stay open
 * and belong to the caller.  On failure what was written to out_fd means nothing.  A file that is packed already is
 * checked as ap_model_open does and copied. */
AP_API ap_status ap_model_import(int source_fd, int out_fd, const ap_import_options *options,
                                 ap_import_report *report, ap_error *err);

/* One of the files that make a model, by its plain name; the descriptor is open for reading. */
typedef struct ap_import_file {
    const char *name;
    int fd;
} ap_import_file;

/* The same for a model of several files: a Hugging Face folder (config.json, *.safetensors, one or several with
 * model.safetensors.index.json, and the files of its tokenizer; no other is looked for), or all parts of a split GGUF
 * file (NAME-00001-of-00003.gguf and so on, in any order). */
AP_API ap_status ap_model_import_files(const ap_import_file *files, size_t file_count, int out_fd,
                                       const ap_import_options *options, ap_import_report *report, ap_error *err);

/* ---- Quantisation: from floats to fewer bits ----------------------------- */

typedef struct ap_quantize_options {
    size_t size;      /* sizeof(ap_quantize_options) */
    const char *type; /* "Q4_K_M" and the like; a name that is none is refused with the list */
    int imatrix_fd;   /* a GGUF file of importances, or -1 */
    unsigned threads; /* 0: one per available CPU; the file has the same bytes whatever their number */
    ap_progress *progress; /* may be NULL */
    void *progress_context;
} ap_quantize_options;

typedef struct ap_quantize_report {
    uint64_t source_bytes, written_bytes;
    uint32_t changed_count; /* tensors that have another type now */
    char notes[512];        /* what a user should know, sentences; may be empty */
} ap_quantize_report;

/* Writes a model in F32, F16 or BF16 as a GGUF file whose matrices have another type, to out_fd, an empty regular file open for
 * reading and writing.  The model is a GGUF file (one without a name, or all parts of a split one) or a folder (files as for
 * ap_model_import_files); a folder gives the same bytes as the GGUF file that ap_model_convert_to_gguf makes of it.  AP_E_ARG
 * if a matrix to change is quantised already. */
AP_API ap_status ap_model_quantize(const ap_import_file *files, size_t file_count, int out_fd, const ap_quantize_options *options,
                                   ap_quantize_report *report, ap_error *err);

/* ---- Conversion: between a Hugging Face folder and a GGUF file ----------- */

/* A file of the folder that is written, but its weights: valid for the call.  `name` is plain. */
typedef ap_status ap_convert_document(void *context, const char *name, const char *bytes, size_t count, ap_error *err);

/* Names of weights where there are several files: the number from 1, and how many. */
#define AP_CONVERT_SHARD_NAME "model-%05u-of-%05u.safetensors"

typedef struct ap_convert_options {
    size_t size;           /* sizeof(ap_convert_options) */
    /* To a folder only. */
    const char *type;         /* what quantised weights become: "F16" (NULL), "BF16" or "F32" */
    uint64_t shard_bytes_max; /* of a file of weights, unless one tensor has more */
    uint32_t shard;           /* which of them is written, from 0; documents come with the first */
    ap_convert_document *document;
    void *document_context;

    ap_progress *progress; /* may be NULL */
    void *progress_context;
} ap_convert_options;

typedef struct ap_convert_report {
    uint64_t source_bytes, written_bytes;
    uint32_t tensor_count, shard_count; /* of the whole model */
    char notes[512];       /* what a user should know, sentences; may be empty */
    char elsewhere[256];   /* of a GGUF file: what llama.cpp computes otherwise from it (docs/convert.md), a sentence; may be empty */
} ap_convert_report;

/* Writes the model of a folder (files as for ap_model_import_files) as a GGUF file to out_fd, an empty regular file open for
 * reading and writing.  Matrices keep their type, vectors become F32: no value changes.  A model that ap_model_import would
 * refuse is refused before a byte is written. */
AP_API ap_status ap_model_convert_to_gguf(const ap_import_file *files, size_t file_count, int out_fd,
                                          const ap_convert_options *options, ap_convert_report *report, ap_error *err);
/* Writes one safetensors file of the folder that a GGUF file (one without a name, or all parts of a split one) becomes to
 * out_fd.  Floats keep their type; vectors in F32 get that of the matrices where it has all their values.  AP_E_UNSUPPORTED names
 * what a folder cannot say. */
AP_API ap_status ap_model_convert_to_folder(const ap_import_file *files, size_t file_count, int out_fd,
                                            const ap_convert_options *options, ap_convert_report *report, ap_error *err);

/* ---- Vocabulary: text to tokens and back, chat templates ----------------- */

typedef struct ap_vocab ap_vocab;

/* Token ids for the caller, who frees `ids` with ap_release. */
typedef struct ap_tokens {
    int32_t *ids;
    size_t count;
} ap_tokens;

enum {
    AP_TOKENIZE_SPECIAL = 1, /* the text is ours: control tokens written in it become control tokens */
    AP_TOKENIZE_BOS = 2,     /* put the begin token first if the vocabulary asks for it */
    AP_TOKENIZE_EOS = 4      /* and the end token last */
};
enum { AP_DETOKENIZE_SPECIAL = 1 /* control tokens are written out instead of left out */ };

/* The vocabulary of a GGUF file (a whole model or vocabulary only) or of a packed
 * file, a tokenizer.json, a SentencePiece model, a tekken.json, a tiktoken file or
 * BERT's vocab.txt.  fd may be closed afterwards. */
AP_API ap_status ap_vocab_open(ap_vocab **out, int fd, ap_error *err);
AP_API void ap_vocab_close(ap_vocab **vocab);
AP_API uint32_t ap_vocab_count(const ap_vocab *vocab);
AP_API ap_status ap_vocab_tokenize(const ap_vocab *vocab, const char *text, size_t length, unsigned flags,
                                   ap_tokens *out, ap_error *err);
/* The text (complete UTF-8, NUL-terminated, *length without the NUL); AP_E_ARG for an id that is none. */
AP_API ap_status ap_vocab_detokenize(const ap_vocab *vocab, const int32_t *ids, size_t count, unsigned flags,
                                     char **text, size_t *length, ap_error *err);
/* The raw bytes of one token, borrowed; NULL and 0 for an id that is none. */
AP_API const char *ap_vocab_piece(const ap_vocab *vocab, int32_t id, size_t *length);
AP_API bool ap_vocab_has_template(const ap_vocab *vocab);
/* Whether the template has a variable of this name, so that giving it a value can matter. */
AP_API bool ap_vocab_template_reads(const ap_vocab *vocab, const char *name);
/* Whether a variable of this name is ours or the template language's in every template (messages, bos_token, loop), so
 * that "kwargs" may not set it. */
AP_API bool ap_vocab_template_owns(const char *name);

/* Renders the model's chat template over a JSON object {"messages":[…], "tools":[…],
 * "add_generation_prompt":true, "kwargs":{…}} (UTF-8) and makes tokens of it; text
 * that came from the messages never becomes a control token.  Either output may be
 * NULL.  `now` is the Unix time that strftime_now shows. */
AP_API ap_status ap_vocab_render(const ap_vocab *vocab, const char *json, size_t json_length, int64_t now,
                                 char **text, size_t *text_length, ap_tokens *tokens, ap_error *err);
/* Tokens of a conversation that is one message of a user, up to where the answer begins: the shortest way from
 * a question to ap_request.  AP_E_UNSUPPORTED if the model has no template. */
AP_API ap_status ap_vocab_render_user(const ap_vocab *vocab, const char *text, size_t length, int64_t now,
                                      ap_tokens *tokens, ap_error *err);

/* ---- Answers: content, reasoning, calls of tools -------------------------- */

/* A model writes all it has to say as one text.  This takes it apart by the marks of the model's family: what is for
 * the user, what it thought, which tools it calls.  The same text gives the same parts however it is cut. */
typedef struct ap_answer ap_answer;

typedef enum ap_answer_kind {
    AP_ANSWER_CONTENT,
    AP_ANSWER_REASONING,
    AP_ANSWER_CALL,     /* a call begins: text is the tool's name, which is one of those offered */
    AP_ANSWER_ARGUMENTS /* more of the arguments of call `call`, as the model wrote them: JSON, but models err */
} ap_answer_kind;

/* Borrowed for the call. */
typedef struct ap_answer_piece {
    ap_answer_kind kind;
    uint32_t call; /* CALL, ARGUMENTS: counted from 0 */
    const char *text;
    size_t length;
    const char *id; /* CALL: the id the model gave, which most do not; else empty */
    size_t id_length;
} ap_answer_piece;
/* Another status than AP_OK ends the push and is its result. */
typedef ap_status ap_answer_fn(void *context, const ap_answer_piece *piece, ap_error *err);

/* Renders as ap_vocab_render does and makes what reads the answer to this prompt.  AP_E_UNSUPPORTED: tools are given and
 * the template does not show them, or the form of its calls is one we do not read, which the message names.
 * AP_E_TEMPLATE: also if a message has calls or results of tools that the template does not show.
 * The vocabulary need not outlive the answer. */
AP_API ap_status ap_vocab_render_chat(const ap_vocab *vocab, const char *json, size_t json_length, int64_t now,
                                      ap_tokens *tokens, ap_answer **answer, ap_error *err);
/* Takes text of events of a request with `text_marks`.  Bytes held back (the start of a mark, a call whose name is not yet
 * known) come with a later piece.  After a failure only destroying makes sense. */
AP_API ap_status ap_answer_push(ap_answer *answer, const char *text, size_t length, ap_answer_fn *fn, void *context,
                                ap_error *err);
/* No more text: what was held back.  A call that never became one is content. */
AP_API ap_status ap_answer_finish(ap_answer *answer, ap_answer_fn *fn, void *context, ap_error *err);
AP_API void ap_answer_destroy(ap_answer **answer);

/* ---- Models -------------------------------------------------------------- */

typedef struct ap_model ap_model;

/* How the final vectors of a sequence become one. */
typedef enum ap_pooling {
    AP_POOLING_NONE,
    AP_POOLING_MEAN,
    AP_POOLING_CLS, /* that of the first token */
    AP_POOLING_LAST
} ap_pooling;

/* How keys and values are stored: q8 is 8-bit codes with a scale for each 32 dimensions. */
typedef enum ap_kv_type { AP_KV_F16, AP_KV_F32, AP_KV_Q8, AP_KV_TYPE_COUNT } ap_kv_type;
/* "f16", "f32", "q8"; NULL for another number. */
AP_API const char *ap_kv_type_name(unsigned type);

typedef struct ap_model_info {
    char architecture[64], name[128], license[128], quantization[16];
    char source_sha256[65];
    uint64_t parameter_count, weight_bytes, file_bytes;
    uint64_t int8_weights; /* of all layers' products that multiply 8-bit codes: each once per token */
    uint32_t context_tokens, vocab_count, layer_count, embedding_width;
    uint32_t kv_token_bytes[AP_KV_TYPE_COUNT]; /* KV memory of one token, by ap_kv_type */
    bool has_chat_template;
    bool is_encoder;      /* it makes no text: ap_engine_encode only */
    ap_pooling pooling;   /* of ap_engine_encode */
    uint32_t label_count; /* scores of ap_engine_encode; 0: the model has none */
    uint32_t type_count;  /* token types that ap_sequence may name */
} ap_model_info;

/* Opens a packed file; maps it, so fd may be closed afterwards.  Shapes, types and
 * sizes are checked against each other; the digest is the caller's matter. */
AP_API ap_status ap_model_open(ap_model **out, int fd, ap_error *err);
AP_API void ap_model_close(ap_model **model);
AP_API const ap_model_info *ap_model_info_of(const ap_model *model);
AP_API const ap_vocab *ap_model_vocab(const ap_model *model);

/* ---- Adapters ------------------------------------------------------------ */

typedef struct ap_adapter ap_adapter;

/* Reads a LoRA adapter made for this model: of a PEFT folder adapter_config.json and adapter_model.safetensors; with
 * config_fd -1 a GGUF adapter.  Names, shapes and ranks are checked against the model, which must outlive it; both
 * files may be closed afterwards.  AP_E_UNSUPPORTED names what this release lacks: DoRA, adapters of embeddings, of the
 * output matrix and of experts, whole matrices saved along. */
AP_API ap_status ap_adapter_open(ap_adapter **out, const ap_model *model, int config_fd, int weights_fd, ap_error *err);
AP_API void ap_adapter_close(ap_adapter **adapter);

/* ---- Engine: many requests, one step at a time --------------------------- */

typedef struct ap_engine_options {
    size_t size;             /* sizeof(ap_engine_options) */
    unsigned threads;        /* 0: one per available CPU */
    const char *isa;         /* a level's name, NULL: the best this CPU has */
    ap_kv_type kv_type;
    uint32_t context_tokens; /* prompt and answer of one request together; 0: what the model declares, at most 8,192 */
    uint64_t kv_bytes;       /* memory for all KV pages, taken at creation; 0: room for four full contexts, at most 1 GiB */
    uint32_t step_tokens;    /* tokens of one forward pass; 0: 512; of an encoder at least context_tokens */
    uint32_t requests_max;   /* waiting and running; 0: 256 */
    uint64_t memory_bytes_max; /* what KV pages, work memory and a reserve for requests may come to; 0: no bound */
    const ap_adapter *adapter; /* of this model, for all requests; must outlive the engine; NULL: none */
} ap_engine_options;

typedef struct ap_logit_bias {
    int32_t token;
    float bias;
} ap_logit_bias;

/* Set all fields; ap_sampling_default gives temperature 1 and everything else off. */
typedef struct ap_sampling {
    float temperature;        /* 0: the likeliest token, ties to the lower id */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    int32_t top_k;            /* 0: off */
    float repetition_penalty; /* 1: off; over prompt and answer, once per distinct token */
    float frequency_penalty;  /* 0: off; over the answer only */
    float presence_penalty;   /* 0: off; over the answer only */
    uint64_t seed;
    uint32_t choice; /* which of n answers to one prompt; part of the random counter */
} ap_sampling;
AP_API ap_sampling ap_sampling_default(void);

typedef struct ap_request {
    size_t size; /* sizeof(ap_request) */
    uint64_t id; /* chosen by the caller, unique among live requests */
    const int32_t *prompt;
    size_t prompt_count; /* at least 1 */
    uint32_t max_tokens; /* 0: until the model ends or the context is full */
    ap_sampling sampling;
    const ap_logit_bias *biases;
    size_t bias_count;
    const char *const *stops; /* at most 16, each 1 to 256 bytes */
    size_t stop_count;
    bool ignore_end;       /* end tokens are ordinary tokens */
    bool logprobs;         /* report the log-probability of each token, before temperature and penalties */
    uint32_t top_logprobs; /* and of so many likeliest ones, at most 20 */
    bool text_specials;    /* control tokens appear in the text */
    bool text_marks;       /* control tokens appear between the bytes 0xff and 0xfe, which no other text has: for ap_answer */
} ap_request;

typedef enum ap_event_kind { AP_EVENT_TOKEN, AP_EVENT_DONE, AP_EVENT_FAILED } ap_event_kind;
typedef enum ap_finish { AP_FINISH_STOP, AP_FINISH_LENGTH, AP_FINISH_CANCELLED } ap_finish;

typedef struct ap_token_logprob {
    int32_t token;
    float logprob;
} ap_token_logprob;

/* One thing that happened; pointers are borrowed for the call. */
typedef struct ap_event {
    ap_event_kind kind;
    uint64_t id;
    int32_t token;    /* TOKEN: what was drawn */
    const char *text; /* TOKEN, DONE: what may be shown now, complete UTF-8, not NUL-terminated, perhaps empty: bytes held back
                       * (half a character, the possible start of a stop string) come with a later event */
    size_t text_length;
    float logprob; /* TOKEN, if asked for */
    const ap_token_logprob *top;
    size_t top_count;
    ap_finish finish;        /* DONE */
    int32_t stop_index;      /* DONE: which stop string ended it, -1 none */
    uint32_t prompt_count;   /* DONE */
    uint32_t answer_count;   /* DONE: tokens drawn, the ending one included */
    uint64_t prompt_ns, answer_ns; /* DONE: from start of work to the first token; from there to the end */
    const ap_error *error;   /* FAILED */
} ap_event;
typedef void ap_event_fn(void *context, const ap_event *event);

typedef struct ap_engine ap_engine;

typedef struct ap_engine_stats {
    uint32_t running, waiting;
    uint32_t page_count, pages_free;
    uint64_t steps, prompt_tokens, answer_tokens, preemptions;
    uint32_t context_tokens;
    unsigned threads;
    const char *isa;
    uint64_t memory_bytes; /* KV pages and work memory */
} ap_engine_stats;

/* All memory a step needs is taken here; AP_E_NOMEM with the sum if it passes memory_bytes_max.  The model must
 * outlive the engine. */
AP_API ap_status ap_engine_create(ap_engine **out, const ap_model *model, const ap_engine_options *options,
                                  ap_error *err);
AP_API void ap_engine_destroy(ap_engine **engine);
/* Copies what it needs.  AP_E_CONTEXT: prompt (or prompt and max_tokens) does not fit, both counts in the
 * message; AP_E_FULL: too many requests; AP_E_ARG names the field. */
AP_API ap_status ap_engine_submit(ap_engine *engine, const ap_request *request, ap_error *err);
/* Frees its pages at once; the event DONE with AP_FINISH_CANCELLED follows in the next step.  AP_E_NOTFOUND if it is not live. */
AP_API ap_status ap_engine_cancel(ap_engine *engine, uint64_t id);
/* One forward pass over all that is due, and its events.  *busy: there is more to do.  A failed request
 * is an event; a returned failure means the engine cannot go on. */
AP_API ap_status ap_engine_step(ap_engine *engine, ap_event_fn *fn, void *context, bool *busy, ap_error *err);
AP_API void ap_engine_stats_of(const ap_engine *engine, ap_engine_stats *stats);

/* What ap_engine_encode gives for a sequence of n tokens. */
typedef enum ap_encoding {
    AP_ENCODE_HIDDEN,    /* n x embedding_width: the final vector of each token */
    AP_ENCODE_EMBEDDING, /* 1 x embedding_width: those pooled; not scaled to a length of one */
    AP_ENCODE_SCORES     /* 1 x label_count: what the model's head makes of that, before any sigmoid or softmax */
} ap_encoding;

typedef struct ap_sequence {
    const int32_t *ids;
    const uint8_t *types; /* of each token (0 the first text, 1 the second of a pair); NULL: all 0 */
    size_t count;         /* at least 1 */
} ap_sequence;

/* Final vectors, embeddings or scores of sequences; fn is called once for each, in order, with rows x columns values that
 * are borrowed for the call.  A sequence is computed in one piece, together with as many others as fit, which does not
 * change its bits.  No request may be live.  AP_E_CONTEXT: a sequence is empty, or longer than context or step; AP_E_ARG: an id
 * or type is none of the model's; AP_E_UNSUPPORTED: the model has no pooling, or no scores. */
typedef void ap_encode_fn(void *context, size_t sequence, const float *values, size_t rows, uint32_t columns);
AP_API ap_status ap_engine_encode(ap_engine *engine, const ap_sequence *sequences, size_t count, ap_encoding encoding,
                                  ap_encode_fn *fn, void *context, ap_error *err);

/* Raw logits of a token sequence, computed in pieces of `chunk` tokens (0: all at once), by the same forward
 * pass as requests.  fn is called with each position's vocab_count logits in order; with only_last, once.
 * No request may be live. */
typedef void ap_logits_fn(void *context, size_t position, const float *logits, uint32_t count);
AP_API ap_status ap_engine_logits(ap_engine *engine, const int32_t *ids, size_t count, uint32_t chunk, bool only_last,
                                  ap_logits_fn *fn, void *context, ap_error *err);

/* How well a model foretells a text, and, with a parent, how far it is from it. */
typedef struct ap_measure {
    uint64_t predictions; /* tokens that were foretold: all of a chunk but its first */
    double nll;           /* mean negative log-likelihood, in nats; perplexity is exp of it */
    double nll_error;     /* standard error of that mean */
    /* With a parent. */
    double parent_nll;
    double kl_mean, kl_999; /* Kullback-Leibler divergence from the parent: mean, and what 99.9% of the predictions stay within */
    double top1;            /* share of predictions with the same likeliest token */
} ap_measure;

typedef struct ap_measure_options {
    size_t size; /* sizeof(ap_measure_options) */
    uint32_t chunk_tokens;
    uint64_t memory_bytes_max; /* what the parent's logits of one chunk may come to; 0: no bound */
    ap_progress *progress; /* in tokens; may be NULL */
    void *progress_context;
} ap_measure_options;
/* Runs the ids in chunks of `chunk_tokens` (at most the context; the last may be shorter, and is left out if it has
 * one token), each a text of its own.  parent may be NULL; else its vocabulary must have as many tokens.  AP_E_ARG without
 * predictions; AP_E_NOMEM names the memory that is wanted; AP_E_STATE while requests are live. */
AP_API ap_status ap_engine_measure(ap_engine *engine, ap_engine *parent, const int32_t *ids, size_t count,
                                   const ap_measure_options *options, ap_measure *out, ap_error *err);

/* Gathers how much each input column of each matrix matters, for ap_quantize_options.imatrix_fd: runs the ids in chunks of
 * `chunk_tokens` (at most the context; the last may be shorter), each a text of its own, and writes the mean squares of what
 * the matrices read as a GGUF file of type imatrix to out_fd, an empty regular file.  The same bytes for any number of
 * threads.  `dataset` is the name of the text.  AP_E_ARG without ids; AP_E_STATE while requests are live. */
typedef struct ap_imatrix_options {
    size_t size; /* sizeof(ap_imatrix_options) */
    uint32_t chunk_tokens;
    const char *dataset;
    ap_progress *progress; /* in tokens; may be NULL */
    void *progress_context;
} ap_imatrix_options;
AP_API ap_status ap_engine_imatrix(ap_engine *engine, const int32_t *ids, size_t count, const ap_imatrix_options *options,
                                   int out_fd, uint64_t *file_bytes, ap_error *err);

/* ---- The machine --------------------------------------------------------- */

/* Levels of vector instructions this program has kernels for and this CPU can run, best first: "avx512vnni",
 * "avx512", "avx2", "plain".  NULL past the end. */
AP_API const char *ap_isa_available(unsigned index);
/* How many operations on 8-bit codes (a product and its addition are two) this machine can do in a second with a level
 * (NULL: the best) on so many threads (0: one per available CPU), all operands in registers: no product of 8-bit
 * weights is faster.  Takes about a second. */
AP_API ap_status ap_isa_int8_ops(const char *isa, unsigned threads, double *ops_per_s, ap_error *err);

#ifdef __cplusplus
}
#endif
#endif
