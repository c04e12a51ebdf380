package annbench

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/hnsw"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

// own is the index of this project.
type own struct {
	label   string
	table   *vectors.Table
	index   *hnsw.Index
	queries []*vectors.Query
	k       int
	took    time.Duration
	count   int
}

func buildOwn(ctx context.Context, o Options, base, queries [][]float32, quantized bool) (*own, error) {
	table, err := vectors.NewTable(len(base[0]), vectors.Cosine, quantized)
	if err != nil {
		return nil, err
	}
	index, err := hnsw.New(table, hnsw.Options{M: o.M, EfConstruction: o.EfConstruction, Seed: o.Seed})
	if err != nil {
		return nil, err
	}
	e := &own{label: "nexus f32", table: table, index: index, k: o.K, count: len(base)}
	if quantized {
		e.label = "nexus int8"
	}
	began := time.Now()
	for i, v := range base {
		if err := errors.Join(ctx.Err(), table.Put(uint32(i), v)); err != nil {
			return nil, err
		}
		if err := index.Insert(uint32(i)); err != nil {
			return nil, err
		}
	}
	e.took = time.Since(began)
	for _, v := range queries {
		q := table.NewQuery()
		if err := q.Set(v); err != nil {
			return nil, err
		}
		e.queries = append(e.queries, q)
	}
	return e, nil
}

func (e *own) name() string    { return e.label }
func (e *own) buildS() float64 { return e.took.Seconds() }
func (e *own) close() error    { return nil }
func (e *own) bytes() float64 {
	return float64(e.table.Bytes()+e.index.Bytes()) / float64(e.count)
}

func (e *own) search(_ context.Context, ef int) (time.Duration, [][]uint32, error) {
	hits := make([][]hnsw.Hit, len(e.queries))
	began := time.Now()
	for i, q := range e.queries {
		var err error
		if hits[i], err = e.index.Search(q, e.k, ef, nil); err != nil {
			return 0, nil, err
		}
	}
	took, out := time.Since(began), make([][]uint32, len(hits))
	for i := range hits {
		for _, hit := range hits[i] {
			out[i] = append(out[i], hit.Slot)
		}
	}
	return took, out, nil
}

//go:embed hnswlib.py
var peerScript []byte

// ErrNoPeer says that hnswlib is not installed.
var ErrNoPeer = errors.New("annbench: Debian's python3-hnswlib is not installed")

// peerPython is the system's interpreter: others don't see Debian's packages.
const peerPython = "/usr/bin/python3"

// peer is hnswlib in a process of its own.
type peer struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Scanner
	dir    string
	stderr bytes.Buffer
	label  string
	took   float64
	k      int
}

type peerAnswer struct {
	Seconds float64 `json:"seconds"`
	Version string  `json:"version"`
}

func buildPeer(ctx context.Context, o Options, base, queries [][]float32) (*peer, error) {
	if exec.CommandContext(ctx, peerPython, "-c", "import hnswlib").Run() != nil {
		return nil, ErrNoPeer
	}
	dir, err := os.MkdirTemp("", "annbench-")
	if err != nil {
		return nil, fmt.Errorf("make folder for hnswlib: %w", err)
	}
	p := &peer{dir: dir, k: o.K, label: "hnswlib"}
	if err := p.start(ctx, o, base, queries); err != nil {
		return nil, errors.Join(fmt.Errorf("start hnswlib: %w", err), p.close())
	}
	return p, nil
}

func (p *peer) start(ctx context.Context, o Options, base, queries [][]float32) error {
	for name, vectors := range map[string][][]float32{"base": base, "queries": queries} {
		if err := os.WriteFile(filepath.Join(p.dir, name), flat(vectors), 0o600); err != nil {
			return err
		}
	}
	at := func(name string) string { return filepath.Join(p.dir, name) }
	p.cmd = exec.CommandContext(ctx, peerPython, "-c", string(peerScript), at("base"), at("queries"), at("found"),
		strconv.Itoa(len(base[0])), strconv.Itoa(o.M), strconv.Itoa(o.EfConstruction), strconv.Itoa(o.K))
	p.cmd.Stderr = &p.stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.lines = bufio.NewScanner(stdout)
	if err := p.cmd.Start(); err != nil {
		return err
	}
	built, err := p.answer()
	if built.Version != "" {
		p.label += " " + built.Version
	}
	p.took = built.Seconds
	return err
}

func (p *peer) answer() (a peerAnswer, err error) {
	if !p.lines.Scan() {
		return a, fmt.Errorf("it ended: %s", strings.TrimSpace(p.stderr.String()))
	}
	return a, json.Unmarshal(p.lines.Bytes(), &a)
}

func (p *peer) name() string    { return p.label }
func (p *peer) buildS() float64 { return p.took }
func (p *peer) bytes() float64  { return 0 }

func (p *peer) search(_ context.Context, ef int) (time.Duration, [][]uint32, error) {
	if _, err := fmt.Fprintln(p.stdin, ef); err != nil {
		return 0, nil, err
	}
	a, err := p.answer()
	if err != nil {
		return 0, nil, err
	}
	raw, err := os.ReadFile(filepath.Join(p.dir, "found"))
	if err != nil {
		return 0, nil, err
	}
	var out [][]uint32
	for at := 0; at+4*p.k <= len(raw); at += 4 * p.k {
		row := make([]uint32, p.k)
		for i := range row {
			row[i] = binary.LittleEndian.Uint32(raw[at+4*i:])
		}
		out = append(out, row)
	}
	return time.Duration(a.Seconds * float64(time.Second)), out, nil
}

func (p *peer) close() error {
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.stdin.Close()
		_ = p.cmd.Wait()
	}
	return os.RemoveAll(p.dir)
}

func flat(vectors [][]float32) []byte {
	var out []byte
	for _, v := range vectors {
		for _, x := range v {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
		}
	}
	return out
}
