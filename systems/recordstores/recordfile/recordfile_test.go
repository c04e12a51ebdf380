package recordfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

var records = []Record{
	{Tenant: 1, Seq: 1, Payload: []byte("first")},
	{Tenant: 2, Seq: 1, Payload: nil},
	{Tenant: 1, Seq: 2, Payload: bytes.Repeat([]byte("long"), 3000)},
}

func encode(records []Record) (file []byte, ends []int) {
	for _, r := range records {
		file = Append(file, r)
		ends = append(ends, len(file))
	}
	return file, ends
}

func scanBytes(t testing.TB, file []byte) (got []Record, wholeLen int64, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	wholeLen, err = Scan(path, func(r Record) error {
		r.Payload = bytes.Clone(r.Payload)
		got = append(got, r)
		return nil
	})
	return got, wholeLen, err
}

func TestScanOfEveryTornLength(t *testing.T) {
	file, ends := encode(records)
	for n := range len(file) + 1 {
		if n > 60 && n < len(file)-60 {
			continue // inside the long payload nothing changes
		}
		whole := 0
		for whole < len(ends) && ends[whole] <= n {
			whole++
		}
		got, wholeLen, err := scanBytes(t, file[:n])
		if err != nil || len(got) != whole || whole > 0 && wholeLen != int64(ends[whole-1]) {
			t.Fatalf("%d bytes: %d records in %d bytes, want %d, error %v", n, len(got), wholeLen, whole, err)
		}
	}
}

func TestScanTellsDamageFromATornEnd(t *testing.T) {
	file, ends := encode(records)
	damaged := bytes.Clone(file)
	damaged[ends[0]-1] ^= 1
	if got, _, err := scanBytes(t, damaged); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("damage before good records: %d records, error %v", len(got), err)
	}
	damaged = bytes.Clone(file)
	damaged[len(file)-1] ^= 1
	if got, wholeLen, err := scanBytes(t, damaged); err != nil || len(got) != 2 || wholeLen != int64(ends[1]) {
		t.Fatalf("damaged end: %d records in %d bytes, error %v", len(got), wholeLen, err)
	}
	if got, _, err := scanBytes(t, append(bytes.Clone(file), make([]byte, 4096)...)); err != nil || len(got) != 3 {
		t.Fatalf("zeros behind: %d records, error %v", len(got), err)
	}
}

func TestOpenAppendCutsTheTornEnd(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	path := filepath.Join(dir.Name(), "f")
	file, ends := encode(records)
	if err := os.WriteFile(path, file[:len(file)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenAppend(dir, path, int64(ends[1]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(file[ends[1]:]); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, file) {
		t.Fatalf("%d bytes, want %d, error %v", len(got), len(file), err)
	}
}

func FuzzScan(f *testing.F) {
	file, _ := encode(records[:2])
	f.Add(file)
	f.Add(make([]byte, 100))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, wholeLen, err := scanBytes(t, file)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if again, _ := encode(got); !bytes.Equal(again, file[:wholeLen]) {
			t.Fatalf("%x scanned as %+v", file[:wholeLen], got)
		}
	})
}
