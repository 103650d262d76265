/* Stands for the generated header while the generator itself is compiled: it needs the rows only,
 * and of their types just these names. */
typedef struct fovea_attention_options fovea_attention_options;
typedef struct fovea_kv_append_options fovea_kv_append_options;
