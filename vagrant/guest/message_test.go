package guest

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestMessagesComeBack(t *testing.T) {
	var wire bytes.Buffer
	w := NewWriter(&wire)
	if err := w.SendJSON(KindExit, Exit{Index: 3, Code: 7}); err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("ab"), BodyLenMax) // two messages
	if n, err := w.Stream(KindFiles).Write(big); err != nil || n != len(big) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if err := w.Send(KindStdout, make([]byte, BodyLenMax+1)); err == nil {
		t.Error("a message that is too long was sent")
	}
	whole := wire.Bytes()
	first, err := Read(&wire)
	if err != nil || first.Kind != KindExit || string(first.Body) != `{"index":3,"code":7,"oom_kills":0,"took_ms":0}` {
		t.Errorf("%v %s: %v", first.Kind, first.Body, err)
	}
	var files []byte
	for range 2 {
		m, err := Read(&wire)
		if err != nil || m.Kind != KindFiles {
			t.Fatal(err)
		}
		files = append(files, m.Body...)
	}
	if !bytes.Equal(files, big) {
		t.Error("the bytes changed on the way")
	}
	if _, err := Read(&wire); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	for _, cut := range []int{1, 4, 5, 20} {
		if _, err := Read(bytes.NewReader(whole[:cut])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", cut, err)
		}
	}
}

// Whatever a machine sends, reading it ends and stays within bounds.
func FuzzRead(f *testing.F) {
	f.Add([]byte{byte(KindDone), 2, 0, 0, 0, '{', '}'})
	f.Add([]byte{99, 0, 0, 0, 0})
	f.Add([]byte{byte(KindStdout), 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, wire []byte) {
		from := bytes.NewReader(wire)
		for {
			m, err := Read(from)
			if err != nil {
				return
			}
			if len(m.Body) > BodyLenMax {
				t.Fatalf("a message of %d bytes", len(m.Body))
			}
		}
	})
}

func TestOnlyInAMachine(t *testing.T) {
	if err := Init(); err == nil {
		t.Error("this process let itself be the first of a machine")
	}
	if err := Run(t.Context()); err == nil {
		t.Error("there is no request here")
	}
}
