package scenarios

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a scenario file.
const (
	fileBytesMax = 256 << 10
	treeDepthMax = 16
)

// node is a YAML value reduced to what a scenario may hold: maps, lists and
// scalars, each with its place. Anchors, aliases, tags and merge keys are
// refused: a scenario is short enough to say what it means.
type node struct {
	at      place
	kind    nodeKind
	text    string // of a scalar, as written
	quoted  bool   // the scalar is a string whatever it looks like
	entries []entry
	items   []*node
}

type entry struct {
	key   string
	at    place
	value *node
}

type nodeKind uint8

const (
	nodeNull nodeKind = iota
	nodeScalar
	nodeMap
	nodeList
)

func (k nodeKind) String() string {
	return [...]string{"nothing", "a single value", "a map", "a list"}[k]
}

// get returns the value of a key, or nil.
func (n *node) get(key string) *node {
	for i := range n.entries {
		if n.entries[i].key == key {
			return n.entries[i].value
		}
	}
	return nil
}

// parseTree reads YAML text. It returns nil after a complaint that leaves
// nothing to go on with.
func parseTree(file string, text []byte, complaints *book) *node {
	top := place{file: file, line: 1, col: 1}
	if len(text) > fileBytesMax {
		complaints.add(top, "", "the file has %d bytes, at most %d are read", len(text), fileBytesMax)
		return nil
	}
	document, err := parser.ParseBytes(text, 0)
	if err != nil {
		complainSyntax(top, err, complaints)
		return nil
	}
	b := treeBuilder{file: file, complaints: complaints}
	switch len(document.Docs) {
	case 0:
		complaints.add(top, "", "the file is empty")
		return nil
	case 1:
	default:
		complaints.add(b.place(document.Docs[1].Body, top), "", "a scenario is one YAML document, this is the second")
		return nil
	}
	body := document.Docs[0].Body
	if body == nil {
		complaints.add(top, "", "the file is empty")
		return nil
	}
	before := len(complaints.list)
	root := b.build(body, top, 0)
	if len(complaints.list) > before {
		return nil
	}
	return root
}

func complainSyntax(top place, err error, complaints *book) {
	at, message := top, err.Error()
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		message = syntax.Message
		if syntax.Token != nil && syntax.Token.Position != nil {
			at.line, at.col = syntax.Token.Position.Line, syntax.Token.Position.Column
		}
	}
	complaints.add(at, "", "not YAML: %s", message)
}

type treeBuilder struct {
	file       string
	complaints *book
}

func (b *treeBuilder) place(n ast.Node, fallback place) place {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return fallback
	}
	p := n.GetToken().Position
	return place{file: b.file, line: max(1, p.Line), col: max(1, p.Column)}
}

func (b *treeBuilder) build(n ast.Node, above place, depth int) *node {
	at := b.place(n, above)
	out := &node{at: at}
	if depth > treeDepthMax {
		b.complaints.add(at, "", "nested more than %d deep", treeDepthMax)
		return out
	}
	switch n := n.(type) {
	case nil, *ast.NullNode:
	case *ast.MappingNode:
		out.kind = nodeMap
		for _, pair := range n.Values {
			b.addEntry(out, pair, depth)
		}
		if len(out.entries) > 0 && !n.IsFlowStyle {
			out.at = out.entries[0].at // the token of a block map is its first colon
		}
	case *ast.MappingValueNode:
		out.kind = nodeMap
		b.addEntry(out, n, depth)
	case *ast.SequenceNode:
		out.kind = nodeList
		for _, value := range n.Values {
			out.items = append(out.items, b.build(value, at, depth+1))
		}
	case *ast.LiteralNode:
		out.kind, out.quoted = nodeScalar, true
		if n.Value != nil {
			out.text = n.Value.Value
		}
	case *ast.StringNode:
		out.kind, out.text = nodeScalar, n.Value
		out.quoted = isQuoted(n)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		out.kind, out.text = nodeScalar, n.GetToken().Value
	default:
		b.complaints.add(at, "", "%s has no place in a scenario: write the value out", nodeWord(n))
	}
	return out
}

func (b *treeBuilder) addEntry(out *node, pair *ast.MappingValueNode, depth int) {
	key, isText := pair.Key.(*ast.StringNode)
	at := b.place(pair.Key, out.at)
	if !isText {
		b.complaints.add(at, "", "a key must be a plain word")
		return
	}
	if out.get(key.Value) != nil {
		b.complaints.add(at, "", "key %q is given twice", key.Value)
		return
	}
	out.entries = append(out.entries, entry{key: key.Value, at: at, value: b.build(pair.Value, at, depth+1)})
}

func isQuoted(n *ast.StringNode) bool {
	return n.Token != nil && (n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType)
}

func nodeWord(n ast.Node) string {
	switch n.(type) {
	case *ast.AliasNode:
		return "an alias"
	case *ast.AnchorNode:
		return "an anchor"
	case *ast.TagNode:
		return "a tag"
	case *ast.MergeKeyNode:
		return "a merge key"
	default:
		return fmt.Sprintf("a %s", n.Type())
	}
}
