package scenarios

import (
	"strconv"
	"strings"
)

// override puts one --set path=value into the tree. The path's words are keys,
// positions in a list, or the name or id of a list's entry:
// points.equal-load.rate=2k/s. The value is YAML. What is wrong with path or
// value is found by the same decoder as in a file; its place is the override.
func override(root *node, set string, complaints *book) {
	path, text, found := strings.Cut(set, "=")
	at := place{file: "--set " + path, line: 1, col: 1}
	if !found || path == "" {
		complaints.add(at, "", "an override has the form path=value")
		return
	}
	value := parseTree("--set "+path, []byte(text), complaints)
	if value == nil {
		return
	}
	words := strings.Split(path, ".")
	target := root
	for i, word := range words {
		last := i == len(words)-1
		slot := target.slot(word, at, complaints, target.kind == nodeMap)
		if slot == nil {
			return
		}
		if last {
			*slot = value
			return
		}
		if *slot == nil || (*slot).kind == nodeNull {
			*slot = &node{at: at, kind: nodeMap}
		}
		target = *slot
	}
}

// slot returns where the value under word is kept. In a map a new key is made,
// and the decoder says whether it is a known one.
func (n *node) slot(word string, at place, complaints *book, create bool) **node {
	switch n.kind {
	case nodeMap:
		for i := range n.entries {
			if n.entries[i].key == word {
				return &n.entries[i].value
			}
		}
		if create {
			n.entries = append(n.entries, entry{key: word, at: at})
			return &n.entries[len(n.entries)-1].value
		}
	case nodeList:
		var names []string
		for i := range n.items {
			for _, key := range []string{"name", "id"} {
				if name := n.items[i].get(key); name != nil {
					names = append(names, name.text)
					if name.text == word {
						return &n.items[i]
					}
				}
			}
		}
		if i, err := strconv.Atoi(word); err == nil && i >= 0 && i < len(n.items) {
			return &n.items[i]
		}
		complaints.add(at, nearest(word, names), "nothing here is called %q: %s", word, oneOf(names))
		return nil
	}
	complaints.add(at, "", "%q leads into %s", word, n.kind)
	return nil
}
