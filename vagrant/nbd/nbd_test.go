package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
)

const testSectors = 64

func newDisk(t *testing.T) (*Disk, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, testSectors*SectorLen), 0o600); err != nil {
		t.Fatal(err)
	}
	disk, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	return disk, path
}

func sector(n byte) []byte { return bytes.Repeat([]byte{n}, SectorLen) }

// Random writes, flushes and writes through, then a cut: each sector must hold
// what was durable or one of the contents that were written to it since, and a
// dumb model remembers which these are.
func TestCutKeepsWhatWasFlushed(t *testing.T) {
	survived, lost := 0, 0
	for seed := range uint64(200) {
		disk, path := newDisk(t)
		rng := rand.New(rand.NewPCG(seed, 1))
		durable := [testSectors]byte{}
		newest := [testSectors]byte{}
		for step := range 60 {
			at := rng.IntN(testSectors)
			value := byte(step + 1)
			switch rng.IntN(12) {
			case 0:
				if err := disk.Flush(); err != nil {
					t.Fatal(err)
				}
				durable = newest
			case 1:
				if err := disk.WriteAt(sector(value), int64(at)*SectorLen, true); err != nil {
					t.Fatal(err)
				}
				newest[at], durable[at] = value, value
			default:
				if err := disk.WriteAt(sector(value), int64(at)*SectorLen, false); err != nil {
					t.Fatal(err)
				}
				newest[at] = value
			}
			got := make([]byte, SectorLen)
			if err := disk.ReadAt(got, int64(at)*SectorLen); err != nil || got[0] != newest[at] {
				t.Fatalf("seed %d: read %d, want %d: %v", seed, got[0], newest[at], err)
			}
		}
		if _, err := disk.Cut(rng); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{disk.Flush(), disk.WriteAt(sector(1), 0, true), disk.ReadAt(make([]byte, SectorLen), 0)} {
			if !errors.Is(err, ErrPowerOff) {
				t.Fatalf("without power: %v", err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range testSectors {
			got := text[i*SectorLen]
			if got != durable[i] && got != newest[i] {
				t.Fatalf("seed %d: sector %d holds %d, durable is %d, written %d", seed, i, got, durable[i], newest[i])
			}
			if newest[i] != durable[i] {
				if got == newest[i] {
					survived++
				} else {
					lost++
				}
			}
		}
	}
	if survived == 0 || lost == 0 {
		t.Errorf("of the volatile sectors %d survived and %d were lost: the coin has one side", survived, lost)
	}
}

// A disk that lies must be able to lose what it said is durable.
func TestLyingDiskLoses(t *testing.T) {
	for seed := range uint64(20) {
		disk, path := newDisk(t)
		disk.Lies = true
		if err := errors.Join(disk.WriteAt(sector(9), 0, true), disk.Flush()); err != nil {
			t.Fatal(err)
		}
		if _, err := disk.Cut(rand.New(rand.NewPCG(seed, 2))); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); err == nil && text[0] == 0 {
			return
		}
	}
	t.Error("a lying disk lost nothing in 20 cuts")
}

// The write at which the power goes is in the cache and gets no answer.
func TestCutAtWrite(t *testing.T) {
	for seed := range uint64(100) {
		disk, path := newDisk(t)
		outcome := make(chan Counts, 1)
		disk.CutAtWrite(rand.New(rand.NewPCG(seed, 3)), func(c Counts, err error) {
			if err != nil {
				t.Error(err)
			}
			outcome <- c
		})
		if err := disk.WriteAt(bytes.Repeat(sector(4), 8), 0, false); !errors.Is(err, ErrPowerOff) {
			t.Fatalf("the write was answered: %v", err)
		}
		counts := <-outcome
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Count(text, sector(4)); counts.Volatile != 8 || uint64(got) != counts.Survived {
			t.Fatalf("%d sectors survived, the disk says %d of %d", got, counts.Survived, counts.Volatile)
		}
		if counts.Survived > 0 && counts.Survived < 8 {
			return // torn
		}
	}
	t.Error("no write was torn in 100 cuts")
}

func TestRefusals(t *testing.T) {
	disk, path := newDisk(t)
	for _, err := range []error{
		disk.WriteAt(make([]byte, 100), 0, false), disk.WriteAt(sector(1), 7, false), disk.ReadAt(sector(0), testSectors*SectorLen), disk.ReadAt(sector(0), -SectorLen),
	} {
		if err == nil {
			t.Error("a request outside of the sectors was accepted")
		}
	}
	if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil {
		t.Error("a file of 100 bytes was taken for a disk")
	}
	if _, err := Open(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("an absent file was opened")
	}
}

// dialogue serves the disk to a client that the test plays.
func dialogue(t *testing.T, disk *Disk) (net.Conn, net.Listener, chan error) {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	ended := make(chan error, 1)
	go func() { ended <- Serve(listener, disk) }()
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, listener, ended
}

func put(t *testing.T, conn net.Conn, values ...any) {
	t.Helper()
	for _, v := range values {
		if err := binary.Write(conn, binary.BigEndian, v); err != nil {
			t.Fatal(err)
		}
	}
}

func get(t *testing.T, conn net.Conn, n int) []byte {
	t.Helper()
	got := make([]byte, n)
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestProtocol(t *testing.T) {
	disk, path := newDisk(t)
	gone, listener, ended := dialogue(t, disk)
	gone.Close() // the next client is served all the same
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if greeting := get(t, conn, 18); string(greeting[:16]) != "NBDMAGICIHAVEOPT" {
		t.Fatalf("greeting %q", greeting)
	}
	put(t, conn, uint32(3), uint64(magicOption), uint32(99), uint32(2), []byte("xx")) // an unknown option
	if reply := get(t, conn, 20); binary.BigEndian.Uint32(reply[12:]) != replyUnsupported {
		t.Errorf("an unknown option was answered with %x", reply)
	}
	put(t, conn, uint64(magicOption), uint32(optionExportName), uint32(0))
	export := get(t, conn, 10)
	if binary.BigEndian.Uint64(export) != testSectors*SectorLen || binary.BigEndian.Uint16(export[8:]) != exportFlags {
		t.Errorf("export %x", export)
	}
	ask := func(kind, flags uint16, offset uint64, length uint32, body []byte) uint32 {
		put(t, conn, request{magicRequest, flags, kind, 42, offset, length}, body)
		reply := get(t, conn, 16)
		if binary.BigEndian.Uint32(reply) != magicResponse || binary.BigEndian.Uint64(reply[8:]) != 42 {
			t.Fatalf("reply %x", reply)
		}
		return binary.BigEndian.Uint32(reply[4:])
	}
	if code := ask(commandWrite, 0, 2*SectorLen, SectorLen, sector(5)); code != 0 {
		t.Errorf("write: error %d", code)
	}
	if text, _ := os.ReadFile(path); text[2*SectorLen] != 0 {
		t.Error("a write was durable before the flush")
	}
	if code := ask(commandFlush, 0, 0, 0, nil); code != 0 {
		t.Errorf("flush: error %d", code)
	}
	if text, _ := os.ReadFile(path); text[2*SectorLen] != 5 {
		t.Error("a write was not durable after the flush")
	}
	if code := ask(commandRead, 0, 2*SectorLen, SectorLen, nil); code != 0 || !bytes.Equal(get(t, conn, SectorLen), sector(5)) {
		t.Errorf("read: error %d", code)
	}
	if code := ask(77, 0, 0, 0, nil); code != errorInvalid {
		t.Errorf("an unknown command: error %d", code)
	}
	put(t, conn, request{magicRequest, 0, commandEnd, 1, 0, 0}, []byte(nil))
	listener.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestProtocolRefusals(t *testing.T) {
	for name, talk := range map[string][]any{
		"no magic":     {uint32(3), uint64(1), uint32(7), uint32(0)},
		"long option":  {uint32(3), uint64(magicOption), uint32(7), uint32(1 << 30)},
		"long request": {uint32(3), uint64(magicOption), uint32(optionExportName), uint32(0), request{magicRequest, 0, commandRead, 1, 0, 1 << 31}},
		"bad request":  {uint32(3), uint64(magicOption), uint32(optionExportName), uint32(0), request{1, 0, 0, 1, 0, 0}},
	} {
		disk, _ := newDisk(t)
		conn, _, ended := dialogue(t, disk)
		put(t, conn, talk...)
		if err := <-ended; err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
