/* Stands for the generated header while the generator itself is compiled: it needs the rows only,
 * and of their types just this name. */
typedef struct fovea_attention_options fovea_attention_options;
