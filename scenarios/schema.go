package scenarios

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/invopop/jsonschema"
)

// Schema returns the JSON Schema of scenario files, for editors. It is made
// from the same types and tags as the decoder; scenarios/schema.json is a copy
// that a test keeps equal.
func Schema() ([]byte, error) {
	root := describe(reflect.TypeFor[fileScenario](), rules{})
	root.Version = jsonschema.Version
	root.Title = "NexusCore labs scenario"
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	return append(text, '\n'), nil
}

// describe returns the schema of a type of file.go; it mirrors decoder.value.
func describe(t reflect.Type, r rules) *jsonschema.Schema {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := reflect.New(t).Interface().(type) {
	case compound:
		return v.describe(r)
	case *quantity:
		expression, example := v.pattern()
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "number"},
			{Type: "string", Pattern: expression, Examples: []any{example}},
		}}
	case scalar:
		expression, example := v.pattern()
		return &jsonschema.Schema{Type: "string", Pattern: expression, Examples: []any{example}}
	}
	switch t.Kind() {
	case reflect.Struct:
		return describeStruct(t)
	case reflect.Map:
		return &jsonschema.Schema{Type: "object", AdditionalProperties: describeMapValue(t.Elem())}
	case reflect.Slice:
		one := uint64(1)
		return &jsonschema.Schema{Type: "array", Items: describe(t.Elem(), r), MinItems: &one}
	case reflect.Bool:
		return &jsonschema.Schema{Type: "boolean"}
	case reflect.Int:
		return bounded(&jsonschema.Schema{Type: "integer"}, r)
	case reflect.Uint64:
		return &jsonschema.Schema{Type: "integer", Minimum: "0"}
	case reflect.Float64:
		return bounded(&jsonschema.Schema{Type: "number"}, r)
	case reflect.String:
		s := &jsonschema.Schema{Type: "string"}
		for _, word := range r.enum {
			s.Enum = append(s.Enum, word)
		}
		return s
	default:
		panic("scenarios: no schema for " + t.String())
	}
}

// describeMapValue lets a parameter be any single value: what looks like a
// number or a truth value in YAML is a text to us.
func describeMapValue(t reflect.Type) *jsonschema.Schema {
	if t.Kind() != reflect.String {
		return describe(t, rules{})
	}
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}}}
}

func bounded(s *jsonschema.Schema, r rules) *jsonschema.Schema {
	s.Minimum, s.Maximum = json.Number(r.min), json.Number(r.max)
	return s
}

func describeStruct(t reflect.Type) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema}
	for i := range t.NumField() {
		field := t.Field(i)
		key, r := field.Tag.Get("yaml"), fieldRules(field.Tag.Get("rule"))
		property := describe(field.Type, r)
		property.Description = field.Tag.Get("doc")
		s.Properties.Set(key, property)
		if r.required {
			s.Required = append(s.Required, key)
		}
	}
	return s
}

func (b *byMode[T]) describe(r rules) *jsonschema.Schema {
	either := func() *jsonschema.Schema { return describe(reflect.TypeFor[T](), r) }
	modes := &jsonschema.Schema{
		Type: "object", Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema,
		Required: []string{ModeQuick, ModeFull},
	}
	modes.Properties.Set(ModeQuick, either())
	modes.Properties.Set(ModeFull, either())
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{either(), modes}}
}

func (m *many[T]) describe(r rules) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
		describe(reflect.TypeFor[T](), r), describe(reflect.TypeFor[[]T](), r),
	}}
}
