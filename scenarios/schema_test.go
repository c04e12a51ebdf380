package scenarios

import (
	"bytes"
	"flag"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "rewrite schema.json")

// scenarios/schema.json is what Schema makes.
func TestSchemaIsCommitted(t *testing.T) {
	made, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.json", made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile("schema.json")
	if err != nil || !bytes.Equal(made, committed) {
		t.Errorf("schema.json is not what Schema makes (%v): go test ./scenarios -run SchemaIsCommitted -update", err)
	}
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func yamlAsJSON(t *testing.T, text []byte) any {
	t.Helper()
	converted, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(converted))
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// What the decoder takes the schema takes, and the other way round.
func TestSchemaAgreesWithDecoder(t *testing.T) {
	schema := compiledSchema(t)
	for _, file := range append(committed(t), "testdata/base.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(yamlAsJSON(t, text)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	base, err := os.ReadFile("testdata/base.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for old, broken := range map[string]string{
		"seed: 7":              "sead: 7",
		"tenants: 64":          "tenants: many",
		"codec: frame":         "codec: fram",
		"rate: 4k/s":           "rate: 4k",
		"timeout: 5s":          "timeout: 5",
		"connections: 8\n  -":  "connections: 0\n  -",
		"{quick: 5, full: 10}": "{quick: 5}",
		"uniform(100B, 4KiB)":  "uniform(100B)",
		"zipf(0.99)":           "zipf",
		"limit: 20":            "limit: twenty",
		"class: gate":          "class: gait",
	} {
		text := []byte(strings.Replace(string(base), old, broken, 1))
		if bytes.Equal(text, base) {
			t.Fatalf("the base does not hold %q", old)
		}
		bySchema := schema.Validate(yamlAsJSON(t, text))
		_, byDecoder := Parse("base.yaml", text, ModeQuick, nil)
		if bySchema == nil || byDecoder == nil {
			t.Errorf("%q for %q: schema says %v, decoder says %v", broken, old, bySchema, byDecoder)
		}
	}
}

// Every field has a key, a sentence for editors, and rules that parse.
func TestSchemaFields(t *testing.T) {
	key := regexp.MustCompile(`^[a-z][a-z_]*$`)
	var walk func(t *testing.T, typ reflect.Type)
	walk = func(t *testing.T, typ reflect.Type) {
		for i := range typ.NumField() {
			field := typ.Field(i)
			fieldRules(field.Tag.Get("rule"))
			if !key.MatchString(field.Tag.Get("yaml")) || !strings.HasSuffix(field.Tag.Get("doc"), ".") {
				t.Errorf("%s.%s has no key or no sentence", typ.Name(), field.Name)
			}
			inner := field.Type
			for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && strings.HasPrefix(inner.Name(), "file") {
				walk(t, inner)
			}
		}
	}
	walk(t, reflect.TypeFor[fileScenario]())
}

// The patterns that editors check agree with the parsers.
func TestPatternsAgreeWithParsers(t *testing.T) {
	texts := []string{
		"20k/s", "1/s", "20k", "4 k/s", "30s", "1m30s", "30", "400ms", "4KiB", "4kib", "1.5MB", "100B", "zipf(0.99)", "zipf()", "uniform",
		"sequential", "uniform(1B,2B)", "uniform(1B)", "loguniform(100B, 4KiB)", "1GB/s", "0.2", "-1", "twenty", "", "s", "1..2s",
	}
	for _, make := range []func() scalar{
		func() scalar { return new(rate) }, func() scalar { return new(span) }, func() scalar { return new(size) },
		func() scalar { return new(quantity) }, func() scalar { return new(Popularity) }, func() scalar { return new(SizeRange) },
	} {
		expression, example := make().pattern()
		pattern := regexp.MustCompile(expression)
		for _, text := range append(texts, example) {
			_, err := make().parse(text)
			if matched := pattern.MatchString(text); matched != (err == nil) {
				t.Errorf("%T %q: pattern says %v, parser says %v", make(), text, matched, err)
			}
		}
	}
}
