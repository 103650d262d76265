/* Sums of vectors in a fixed tree: like carries of a binary counter, two partial sums of one size
 * make one of the next. Blocks of short chains under this tree meet R(n), whatever the data. */
#ifndef FOVEA_CPU_TREE_H
#define FOVEA_CPU_TREE_H

#include "cpu/kernel.h"

enum { TREE_LEVELS = 40 };

#define TREE(type, add)                                                                            \
    typedef struct type##_tree {                                                                   \
        uint64_t count;                                                                            \
        type level[TREE_LEVELS];                                                                   \
    } type##_tree;                                                                                 \
    static inline void type##_tree_push(type##_tree *tree, type sum) {                             \
        int level = 0;                                                                             \
        for (uint64_t carry = tree->count++; carry & 1; carry >>= 1)                               \
            sum = add(tree->level[level++], sum);                                                  \
        tree->level[level] = sum;                                                                  \
    }                                                                                              \
    /* Of at least one sum. */                                                                     \
    static inline type type##_tree_total(const type##_tree *tree) {                                \
        uint64_t rest = tree->count;                                                               \
        type sum = tree->level[__builtin_ctzll(rest)];                                             \
        for (rest &= rest - 1; rest; rest &= rest - 1)                                             \
            sum = add(tree->level[__builtin_ctzll(rest)], sum);                                    \
        return sum;                                                                                \
    }

static inline double tree_add_double(double a, double b) { return a + b; }

TREE(vf, vf_add)
TREE(vd, vd_add)
TREE(double, tree_add_double)

#endif
