package reports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
)

// resultBytesMax bounds what Load reads: a full run with all its histograms is
// two orders of magnitude smaller.
const resultBytesMax = 512 << 20

// Save writes r as JSON to path in one step: a reader sees the old file or the
// whole new one, also after a crash. A number that is NaN or infinite is an
// error: it has no JSON, and nothing may stand for it.
func Save(path string, r *Result) error {
	encoded, err := json.Marshal(r) // histograms are long: indented it would be four times the size
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	return writeFile(path, append(encoded, '\n'))
}

// writeFile replaces path by way of a synced temporary file beside it.
func writeFile(path string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(file.Name()))
		}
	}()
	_, err = file.Write(content)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	opened, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}

// Load reads a result.json and refuses whatever is not whole: an unknown schema
// version, an unknown or missing key, a null where a number must be, text after
// the object, and values that contradict each other.
func Load(path string) (*Result, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load result: %w", err)
	}
	defer file.Close()
	r, err := Read(file)
	if err != nil {
		return nil, fmt.Errorf("load result %s: %w", path, err)
	}
	return r, nil
}

// Read is Load from a stream.
func Read(from io.Reader) (*Result, error) {
	raw, err := io.ReadAll(io.LimitReader(from, resultBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > resultBytesMax {
		return nil, fmt.Errorf("larger than %d bytes: not a result", resultBytesMax)
	}
	var r Result
	if err := decodeStrict(raw, SchemaVersion, &r); err != nil {
		return nil, err
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return &r, nil
}

// decodeStrict decodes the one JSON object in raw into target, a pointer to a
// struct that states its schema_version.
func decodeStrict(raw []byte, version int, target any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return errors.New("the file is empty")
	}
	var whole map[string]any
	if err := json.Unmarshal(raw, &whole); err != nil {
		return at(raw, err)
	}
	switch found := whole["schema_version"]; found {
	case float64(version):
	case nil:
		return fmt.Errorf("no schema_version: not written by this program, which reads version %d", version)
	default:
		return fmt.Errorf("schema_version is %v and this program reads %d: use the version of nexus that wrote it, or run again", found, version)
	}
	if err := complete(reflect.TypeOf(target).Elem(), whole, ""); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		return at(raw, err)
	}
	return nil
}

// at adds line and column to a JSON error and says it in plain words.
func at(raw []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var offset int64
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	default:
		return err
	}
	before := raw[:min(int(offset), len(raw))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	if syntax != nil && int(offset) >= len(raw) {
		return fmt.Errorf("truncated at line %d: %w", line, err)
	}
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}

// complete checks that decoded JSON has every key that the type has and no null
// where the type has no way to say "absent". encoding/json would leave a zero.
func complete(t reflect.Type, value any, path string) error {
	if t.Kind() == reflect.Pointer {
		if value == nil {
			return nil
		}
		return complete(t.Elem(), value, path)
	}
	if value == nil && t.Kind() != reflect.Slice && t.Kind() != reflect.Map {
		return fmt.Errorf("%s is null and must have a value", path)
	}
	switch decoded := value.(type) {
	case []any:
		for i, element := range decoded {
			if t.Kind() != reflect.Slice {
				break // the decoder has the better message
			}
			if err := complete(t.Elem(), element, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		return completeObject(t, decoded, path)
	}
	return nil
}

func completeObject(t reflect.Type, decoded map[string]any, path string) error {
	switch t.Kind() {
	case reflect.Map:
		for key, element := range decoded {
			if err := complete(t.Elem(), element, path+"."+key); err != nil {
				return err
			}
		}
	case reflect.Struct:
		if t == timeType {
			return nil
		}
		for i := range t.NumField() {
			name, optional := jsonName(t.Field(i))
			element, present := decoded[name]
			if !present {
				if optional {
					continue
				}
				return fmt.Errorf("%s.%s is missing", path, name)
			}
			if err := complete(t.Field(i).Type, element, path+"."+name); err != nil {
				return err
			}
		}
	}
	return nil
}
