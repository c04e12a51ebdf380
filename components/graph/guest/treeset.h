// The visited set that the lesson begins with, as Rust's BTreeSet has it: a B-tree
// with at most 11 keys in a node, made anew for every search. It is here to be
// measured beside the bitmap (-DTREE_SET).

#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	SPLIT = 6, // half of a full node's children
	KEYS_MAX = 2 * SPLIT - 1
};

struct tree_node {
	uint32_t keys[KEYS_MAX];
	struct tree_node *children[KEYS_MAX + 1]; // of a leaf: none
	uint32_t count;
	bool leaf;
};

// A set's nodes lie behind each other in the memory of its traversal.
struct tree {
	struct tree_node *root, *nodes;
	uint32_t used;
};

// tree_len is enough for so many keys: a node but the root has SPLIT-1 or more.
static uint64_t tree_len(uint32_t keys)
{
	return sizeof(struct tree) + sizeof(struct tree_node) * (uint64_t)(keys / (SPLIT - 1) + 2);
}

static struct tree_node *tree_grow(struct tree *tree, bool leaf)
{
	struct tree_node *node = &tree->nodes[tree->used++];
	node->count = 0;
	node->leaf = leaf;
	return node;
}

static void tree_clear(struct tree *tree)
{
	tree->nodes = (struct tree_node *)(tree + 1);
	tree->used = 0;
	tree->root = tree_grow(tree, true);
}

// tree_split halves the full child at a place of a node that is not full.
static void tree_split(struct tree *tree, struct tree_node *parent, uint32_t at)
{
	struct tree_node *left = parent->children[at], *right = tree_grow(tree, left->leaf);
	right->count = SPLIT - 1;
	__builtin_memcpy(right->keys, left->keys + SPLIT, (SPLIT - 1) * sizeof *left->keys);
	if (!left->leaf)
		__builtin_memcpy(right->children, left->children + SPLIT,
				 SPLIT * sizeof *left->children);
	left->count = SPLIT - 1;
	for (uint32_t i = parent->count; i > at; i--) {
		parent->keys[i] = parent->keys[i - 1];
		parent->children[i + 1] = parent->children[i];
	}
	parent->keys[at] = left->keys[SPLIT - 1];
	parent->children[at + 1] = right;
	parent->count++;
}

// tree_place is where a key is in a node, or the child that it is behind.
static uint32_t tree_place(const struct tree_node *node, uint32_t key)
{
	uint32_t at = 0;
	while (at < node->count && node->keys[at] < key)
		at++;
	return at;
}

// tree_insert says whether the key is new. Full nodes are split on the way down.
static bool tree_insert(struct tree *tree, uint32_t key)
{
	if (tree->root->count == KEYS_MAX) {
		struct tree_node *root = tree_grow(tree, false);
		root->children[0] = tree->root;
		tree->root = root;
		tree_split(tree, root, 0);
	}
	struct tree_node *node = tree->root;
	for (;;) {
		uint32_t at = tree_place(node, key);
		if (at < node->count && node->keys[at] == key)
			return false;
		if (node->leaf) {
			for (uint32_t i = node->count; i > at; i--)
				node->keys[i] = node->keys[i - 1];
			node->keys[at] = key;
			node->count++;
			return true;
		}
		if (node->children[at]->count == KEYS_MAX) {
			tree_split(tree, node, at);
			if (node->keys[at] == key)
				return false;
			at += node->keys[at] < key;
		}
		node = node->children[at];
	}
}
