package scenarios

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
)

// rules are what a field's rule tag says.
type rules struct {
	required bool
	min, max string // in the field's notation; empty: no bound
	enum     []string
}

// fieldRules reads a rule tag. The tags are part of this package's source, so
// a bad one panics; a test walks all of them.
func fieldRules(tag string) rules {
	var r rules
	for _, word := range strings.Split(tag, ",") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "":
		case "required":
			r.required = true
		case "min":
			r.min = value
		case "max":
			r.max = value
		case "enum":
			r.enum = strings.Split(value, "|")
		default:
			panic("scenarios: unknown rule " + key)
		}
	}
	return r
}

// decoder puts a tree into a value, strictly: every key must be known, every
// value of the right kind and within its bounds. It complains and goes on.
type decoder struct {
	*book
	places map[string]place // path (points[0].rate) → where it stands
}

// compound is a wrapper type that decodes itself.
type compound interface {
	decode(d *decoder, n *node, r rules, path string)
	describe(r rules) *jsonschema.Schema
}

func (d *decoder) value(n *node, v reflect.Value, r rules, path string) {
	d.places[path] = n.at
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch into := v.Addr().Interface().(type) {
	case compound:
		into.decode(d, n, r, path)
		return
	case scalar:
		d.scalar(n, into, r)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, r, path)
	case reflect.String:
		d.text(n, v, r)
	case reflect.Bool:
		d.truth(n, v)
	case reflect.Int:
		d.integer(n, v, r)
	case reflect.Uint64:
		d.unsigned(n, v)
	case reflect.Float64:
		d.float(n, v, r)
	default:
		panic("scenarios: no decoder for " + v.Type().String())
	}
}

// single complains unless n is a scalar.
func (d *decoder) single(n *node, want string) bool {
	if n.kind == nodeScalar {
		return true
	}
	d.add(n.at, "", "want %s, got %s", want, n.kind)
	return false
}

func (d *decoder) scalar(n *node, into scalar, r rules) {
	_, example := into.pattern()
	if !d.single(n, "a value such as "+example) {
		return
	}
	near, err := into.parse(n.text)
	if err != nil {
		d.add(n.at, near, "%s", err)
		return
	}
	d.bounds(n, into.canonical(), r, func(bound string) float64 {
		limit := reflect.New(reflect.TypeOf(into).Elem()).Interface().(scalar)
		if _, err := limit.parse(bound); err != nil {
			panic(fmt.Sprintf("scenarios: bound %q: %v", bound, err))
		}
		return limit.canonical()
	})
}

func (d *decoder) bounds(n *node, value float64, r rules, number func(string) float64) {
	if r.min != "" && value < number(r.min) {
		d.add(n.at, "", "%s is too small: at least %s", n.text, r.min)
	}
	if r.max != "" && value > number(r.max) {
		d.add(n.at, "", "%s is too large: at most %s", n.text, r.max)
	}
}

func plainNumber(bound string) float64 {
	value, err := strconv.ParseFloat(bound, 64)
	if err != nil {
		panic("scenarios: bound " + bound)
	}
	return value
}

func (d *decoder) truth(n *node, v reflect.Value) {
	if !d.single(n, "true or false") {
		return
	}
	switch n.text {
	case "true":
		v.SetBool(true)
	case "false":
	default:
		d.add(n.at, "", "want true or false, got %q", n.text)
	}
}

func (d *decoder) integer(n *node, v reflect.Value, r rules) {
	if !d.single(n, "a whole number") {
		return
	}
	value, err := strconv.ParseInt(strings.ReplaceAll(n.text, "_", ""), 10, 32)
	if err != nil || n.quoted {
		d.add(n.at, "", "want a whole number, got %q", n.text)
		return
	}
	v.SetInt(value)
	d.bounds(n, float64(value), r, plainNumber)
}

func (d *decoder) unsigned(n *node, v reflect.Value) {
	if !d.single(n, "a whole number of at least 0") {
		return
	}
	value, err := strconv.ParseUint(strings.ReplaceAll(n.text, "_", ""), 10, 64)
	if err != nil || n.quoted {
		d.add(n.at, "", "want a whole number of at least 0, got %q", n.text)
		return
	}
	v.SetUint(value)
}

func (d *decoder) float(n *node, v reflect.Value, r rules) {
	if !d.single(n, "a number") {
		return
	}
	value, err := strconv.ParseFloat(n.text, 64)
	if err != nil || n.quoted || value != value {
		d.add(n.at, "", "want a number, got %q", n.text)
		return
	}
	v.SetFloat(value)
	d.bounds(n, value, r, plainNumber)
}

func (d *decoder) text(n *node, v reflect.Value, r rules) {
	if !d.single(n, "a text") {
		return
	}
	if len(r.enum) > 0 && !contains(r.enum, n.text) {
		d.add(n.at, nearest(n.text, r.enum), "%q is not allowed here: %s", n.text, oneOf(r.enum))
		return
	}
	if n.text == "" {
		d.add(n.at, "", "the text is empty")
	}
	v.SetString(n.text)
}

func (d *decoder) list(n *node, v reflect.Value, r rules, path string) {
	if n.kind != nodeList {
		d.add(n.at, "", "want a list, got %s", n.kind)
		return
	}
	if len(n.items) == 0 {
		d.add(n.at, "", "the list is empty")
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	for i, item := range n.items {
		d.value(item, v.Index(i), r, fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *decoder) mapping(n *node, v reflect.Value, path string) {
	if n.kind != nodeMap {
		d.add(n.at, "", "want a map, got %s", n.kind)
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.entries)))
	for _, e := range n.entries {
		value := reflect.New(v.Type().Elem()).Elem()
		below := join(path, e.key)
		d.value(e.value, value, rules{}, below)
		d.places[below] = e.at
		v.SetMapIndex(reflect.ValueOf(e.key), value)
	}
}

func (d *decoder) structure(n *node, v reflect.Value, path string) {
	if n.kind != nodeMap {
		d.add(n.at, "", "want a map with the keys %s; got %s", strings.Join(keysOf(v.Type()), ", "), n.kind)
		return
	}
	keys := keysOf(v.Type())
	for _, e := range n.entries {
		if !contains(keys, e.key) {
			d.add(e.at, nearest(e.key, keys), "unknown key %q: %s", e.key, oneOf(keys))
		}
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key, r := field.Tag.Get("yaml"), fieldRules(field.Tag.Get("rule"))
		value := n.get(key)
		switch {
		case value == nil && r.required:
			d.add(n.at, "", "key %q is missing", key)
		case value == nil:
		case value.kind == nodeNull:
			d.add(value.at, "", "%q has no value", key)
		default:
			d.value(value, v.Field(i), r, join(path, key))
		}
	}
}

func (b *byMode[T]) decode(d *decoder, n *node, r rules, path string) {
	b.set = true
	if n.kind != nodeMap {
		d.value(n, reflect.ValueOf(&b.quick).Elem(), r, path)
		b.full = b.quick
		return
	}
	modes := []string{ModeQuick, ModeFull}
	for _, e := range n.entries {
		if !contains(modes, e.key) {
			d.add(e.at, nearest(e.key, modes), "unknown mode %q: %s", e.key, oneOf(modes))
		}
	}
	for _, m := range []struct {
		name string
		into *T
	}{{ModeQuick, &b.quick}, {ModeFull, &b.full}} {
		if value := n.get(m.name); value != nil {
			d.value(value, reflect.ValueOf(m.into).Elem(), r, path+"."+m.name)
		} else {
			d.add(n.at, "", "a value by mode needs both modes: %q is missing", m.name)
		}
	}
}

func (m *many[T]) decode(d *decoder, n *node, r rules, path string) {
	if n.kind != nodeList {
		m.values = make([]T, 1)
		d.value(n, reflect.ValueOf(&m.values[0]).Elem(), r, path)
		return
	}
	m.listed = true
	d.value(n, reflect.ValueOf(&m.values).Elem(), r, path)
}

// keysOf returns a struct's keys, in the order of its fields.
func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
