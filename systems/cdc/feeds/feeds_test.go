package feeds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	surrealdb "github.com/surrealdb/surrealdb.go"
	"github.com/surrealdb/surrealdb.go/pkg/models"

	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
	"github.com/nexuscore-labs/nexus/systems/cdc/surrealsource"
	"github.com/nexuscore-labs/nexus/systems/surreal"
)

// Each feed follows a real SurrealDB through creates, updates, deletes and
// cancelled transactions; what it put must lead to what the table holds.

// heard is what a feed's changes lead to.
type heard struct {
	mu    sync.Mutex
	state map[string]float32 // the vector's first element, by key
	puts  int
}

func (h *heard) put(_ context.Context, c sink.Change) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.puts++
	if c.Delete {
		delete(h.state, c.Key)
	} else {
		h.state[c.Key] = c.Vector[0]
	}
	return nil
}

func (h *heard) becomes(t *testing.T, want map[string]float32) {
	t.Helper()
	until := time.Now().Add(10 * time.Second)
	for {
		h.mu.Lock()
		got := maps.Clone(h.state)
		h.mu.Unlock()
		if maps.Equal(got, want) {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("heard %v, want %v", got, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func follow(t *testing.T) (Table, *heard) {
	t.Helper()
	server, err := surreal.Start(t.Context(), surreal.Options{Dir: t.TempDir()})
	if errors.Is(err, surreal.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	db, err := server.Connect(t.Context(), "nexus_test", fmt.Sprintf("feeds%d", time.Now().UnixNano()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	h := &heard{state: map[string]float32{}}
	table := Table{DB: db, Name: "records", Collection: "c", Records: &surrealsource.Records{DB: db, Vector: "v"}, Put: h.put}
	exec(t, db, "DEFINE TABLE records")
	return table, h
}

func exec(t *testing.T, db *surrealdb.DB, text string) {
	t.Helper()
	if _, err := surrealdb.Query[any](t.Context(), db, text, nil); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// background runs a feed until the test ends and reports what it said.
func background(t *testing.T, run func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// change does the same to every feed; write carries out one change of a record.
func change(t *testing.T, db *surrealdb.DB, h *heard, write func(id int, statement string)) {
	t.Helper()
	for i := range 10 {
		write(i, fmt.Sprintf("CREATE $record SET v = [%d.5]", i))
	}
	write(3, "UPDATE $record SET v = [33.5]")
	write(4, "UPDATE $record SET v = [44.5]")
	write(4, "UPDATE $record SET v = [45.5]")
	write(5, "DELETE $record")
	if _, err := surrealdb.Query[any](t.Context(), db, "BEGIN; CREATE records:99 SET v = [9.5]; CANCEL", nil); err == nil {
		t.Error("a cancelled transaction reports nothing")
	}
	write(6, "DELETE $record")
	write(6, "CREATE $record SET v = [66.5]")
	h.becomes(t, map[string]float32{"records:i:0": 0.5, "records:i:1": 1.5, "records:i:2": 2.5, "records:i:3": 33.5,
		"records:i:4": 45.5, "records:i:6": 66.5, "records:i:7": 7.5, "records:i:8": 8.5, "records:i:9": 9.5})
}

// plain writes without more.
func plain(t *testing.T, db *surrealdb.DB) func(int, string) {
	return func(id int, statement string) {
		t.Helper()
		vars := map[string]any{"record": models.NewRecordID("records", id)}
		if _, err := surrealdb.Query[any](t.Context(), db, statement, vars); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func TestPoll(t *testing.T) {
	table, h := follow(t)
	exec(t, table.DB, PollDefinition(table.Name))
	exec(t, table.DB, "CREATE records:0 SET v = [7.5]; DELETE records:0")
	background(t, func(ctx context.Context) error { return Poll(ctx, table, 20*time.Millisecond, time.Second) })
	change(t, table.DB, h, plain(t, table.DB))
	h.mu.Lock()
	puts := h.puts
	h.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.puts != puts {
		t.Errorf("%d changes were put again while nothing changed", h.puts-puts)
	}
}

func TestLive(t *testing.T) {
	table, h := follow(t)
	ready := make(chan struct{})
	background(t, func(ctx context.Context) error { return Live(ctx, table, func() { close(ready) }) })
	<-ready
	change(t, table.DB, h, plain(t, table.DB))
}

func TestOutbox(t *testing.T) {
	table, h := follow(t)
	exec(t, table.DB, OutboxDefinition(table.Name))
	k, err := OpenKafka("changes")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	background(t, func(ctx context.Context) error { return Relay(ctx, table, k, "changes", 10*time.Millisecond) })
	background(t, func(ctx context.Context) error { return Consume(ctx, table, k, "changes") })
	change(t, table.DB, h, func(id int, statement string) {
		t.Helper()
		plain(t, table.DB)(id, "BEGIN; "+statement+"; "+OutboxEntry(table.Name)+"; COMMIT")
	})
}
