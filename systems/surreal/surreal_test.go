package surreal

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	surrealdb "github.com/surrealdb/surrealdb.go"
	"github.com/surrealdb/surrealdb.go/pkg/connection"
	"github.com/surrealdb/surrealdb.go/pkg/connection/gorillaws"
	"github.com/surrealdb/surrealdb.go/pkg/models"
)

// The tests use a real SurrealDB through its official client, and only that.

// shared is the server of the tests that only use one, stopped by TestMain.
var shared = sync.OnceValues(func() (*Server, error) {
	dir, err := os.MkdirTemp("", "surreal")
	if err != nil {
		return nil, err
	}
	return Start(context.Background(), Options{Dir: dir})
})

func TestMain(m *testing.M) {
	code := m.Run()
	if s, err := shared(); err == nil {
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.RemoveAll(s.options.Dir)
	}
	os.Exit(code)
}

// use gives the shared server.
func use(t testing.TB) *Server {
	t.Helper()
	s, err := shared()
	if errors.Is(err, ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start gives a server of the kind that can be had, by URL or not.
func start(t testing.TB, options Options) *Server {
	t.Helper()
	if options.Dir == "" {
		options.Dir = t.TempDir()
	}
	s, err := Start(t.Context(), options)
	if errors.Is(err, ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// connect selects a database of the test's own.
func connect(t testing.TB, s *Server) *surrealdb.DB {
	t.Helper()
	db, err := s.Connect(t.Context(), "nexus_test", fmt.Sprintf("t%d", time.Now().UnixNano()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(context.Background()); err != nil && !strings.Contains(err.Error(), "closed") {
			t.Log(err)
		}
	})
	return db
}

type person struct {
	ID   *models.RecordID `json:"id,omitempty"`
	Name string           `json:"name"`
	Age  int              `json:"age"`
}

func people(t testing.TB, db *surrealdb.DB) map[string]int {
	t.Helper()
	found, err := surrealdb.Query[[]person](t.Context(), db, "SELECT * FROM person", nil)
	if err != nil {
		t.Fatal(err)
	}
	ages := map[string]int{}
	for _, p := range (*found)[0].Result {
		ages[p.Name] = p.Age
	}
	return ages
}

func query(t testing.TB, db *surrealdb.DB, text string) {
	t.Helper()
	if _, err := surrealdb.Query[any](t.Context(), db, text, nil); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func TestCRUD(t *testing.T) {
	db := connect(t, use(t))
	ctx := t.Context()
	if _, err := surrealdb.Create[person](ctx, db, models.NewRecordID("person", 1), person{Name: "a", Age: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := surrealdb.Create[person](ctx, db, models.NewRecordID("person", "two"), person{Name: "b", Age: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := surrealdb.Create[person](ctx, db, models.NewRecordID("person", 1), person{Name: "again"}); err == nil {
		t.Error("a record was created twice")
	}
	if _, err := surrealdb.Update[person](ctx, db, models.NewRecordID("person", 1), person{Name: "a", Age: 7}); err != nil {
		t.Fatal(err)
	}
	if got := people(t, db); got["a"] != 7 || got["b"] != 2 || len(got) != 2 {
		t.Errorf("people %v", got)
	}
	one, err := surrealdb.Select[person](ctx, db, models.NewRecordID("person", "two"))
	if err != nil || one.Name != "b" || one.ID == nil || one.ID.Table != "person" || one.ID.ID != "two" {
		t.Errorf("selected %+v, %v", one, err)
	}
	if _, err := surrealdb.Delete[person](ctx, db, models.NewRecordID("person", 1)); err != nil {
		t.Fatal(err)
	}
	if got := people(t, db); len(got) != 1 {
		t.Errorf("people after a delete: %v", got)
	}
}

func TestTransactions(t *testing.T) {
	db := connect(t, use(t))
	query(t, db, "BEGIN; CREATE person:1 SET name='kept', age=1; CREATE person:2 SET name='too', age=2; COMMIT")
	_, err := surrealdb.Query[any](t.Context(), db, "BEGIN; CREATE person:3 SET name='cancelled', age=3; CANCEL", nil)
	if err == nil {
		t.Error("a cancelled transaction reports nothing")
	}
	_, err = surrealdb.Query[any](t.Context(), db, "BEGIN; CREATE person:4 SET name='thrown', age=4; THROW 'no'; COMMIT", nil)
	if err == nil {
		t.Error("a thrown transaction reports nothing")
	}
	if got := people(t, db); len(got) != 2 || got["kept"] != 1 || got["too"] != 2 {
		t.Errorf("people %v", got)
	}
}

// TestClientTransactions needs the protocol of version 3: begin, and then calls
// that name the transaction.
func TestClientTransactions(t *testing.T) {
	db := connect(t, use(t))
	query(t, db, "DEFINE TABLE person")
	ctx := t.Context()
	for _, commit := range []bool{true, false} {
		tx, err := db.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint(commit)
		if _, err := surrealdb.Query[any](ctx, tx, "CREATE person SET name=$name, age=1", map[string]any{"name": name}); err != nil {
			t.Fatal(err)
		}
		if got := people(t, db); got[name] != 0 {
			t.Error("a transaction is seen before it commits")
		}
		if commit {
			err = tx.Commit(ctx)
		} else {
			err = tx.Cancel(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := people(t, db); len(got) != 1 || got["true"] != 1 {
		t.Errorf("people %v", got)
	}
}

func TestLive(t *testing.T) {
	s := use(t)
	db, other := connect(t, s), connect(t, s)
	ctx := t.Context()
	query(t, db, "DEFINE TABLE person")
	query(t, other, "DEFINE TABLE person")
	id, err := surrealdb.Live(ctx, db, "person", false)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := surrealdb.Live(ctx, other, "person", false)
	if err != nil {
		t.Fatal(err)
	}
	notes, err := db.LiveNotifications(id.String())
	if err != nil {
		t.Fatal(err)
	}
	otherNotes, err := other.LiveNotifications(elsewhere.String())
	if err != nil {
		t.Fatal(err)
	}
	query(t, db, "CREATE person:1 SET name='a', age=1")
	query(t, db, "UPDATE person:1 SET age=2")
	query(t, db, "DELETE person:1")
	for _, want := range []string{"CREATE", "UPDATE", "DELETE"} {
		select {
		case n := <-notes:
			if string(n.Action) != want {
				t.Errorf("notified of %s, want %s", n.Action, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("no notification of %s", want)
		}
	}
	select {
	case n := <-otherNotes:
		t.Errorf("another socket and database was notified: %+v", n)
	default:
	}
}

func TestSignIn(t *testing.T) {
	s := use(t)
	if s.Kind == ByURL && s.User == "" {
		t.Skip("the server by URL asks for no password")
	}
	ctx := t.Context()
	db, err := surrealdb.FromEndpointURLString(ctx, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	if err := db.Use(ctx, "nexus_test", "signin"); err != nil {
		t.Log("use before sign-in:", err)
	}
	if _, err := surrealdb.Query[any](ctx, db, "CREATE person SET name='x'", nil); err == nil {
		t.Error("a stranger wrote")
	}
	if _, err := surrealdb.Select[[]person](ctx, db, models.Table("person")); err == nil {
		t.Error("a stranger read")
	}
	if _, err := db.SignIn(ctx, map[string]any{"user": s.User, "pass": s.Password + "x"}); err == nil {
		t.Error("signed in with a wrong password")
	}
	if _, err := surrealdb.Query[any](ctx, db, "INFO FOR ROOT", nil); err == nil {
		t.Error("a stranger asked for the users")
	}
	if _, err := db.SignIn(ctx, map[string]any{"user": s.User, "pass": s.Password}); err != nil {
		t.Fatal(err)
	}
	query(t, db, "INFO FOR ROOT")
	if err := db.Invalidate(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := surrealdb.Query[any](ctx, db, "INFO FOR ROOT", nil); err == nil {
		t.Error("a session kept its rights after giving them back")
	}
}

// TestViewer signs in as a user who may only read: the engine says no.
func TestViewer(t *testing.T) {
	s := use(t)
	owner := connect(t, s)
	name := fmt.Sprintf("viewer%d", time.Now().UnixNano())
	query(t, owner, "DEFINE USER "+name+" ON ROOT PASSWORD 'look' ROLES VIEWER")
	query(t, owner, "DEFINE NAMESPACE IF NOT EXISTS nexus_view; USE NS nexus_view; DEFINE DATABASE IF NOT EXISTS v; USE DB v; DEFINE TABLE IF NOT EXISTS person")
	ctx := t.Context()
	db, err := surrealdb.FromEndpointURLString(ctx, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	if _, err := db.SignIn(ctx, map[string]any{"user": name, "pass": "look"}); err != nil {
		t.Fatal(err)
	}
	if err := db.Use(ctx, "nexus_view", "v"); err != nil {
		t.Fatal(err)
	}
	if _, err := surrealdb.Query[any](ctx, db, "SELECT * FROM person", nil); err != nil {
		t.Errorf("a viewer can't read: %v", err)
	}
	if _, err := surrealdb.Query[any](ctx, db, "DEFINE TABLE other", nil); err == nil {
		t.Error("a viewer defined a table")
	}
}

// TestSessions attaches a second session to a socket, and tries to use it from
// another socket.
func TestSessions(t *testing.T) {
	s := use(t)
	db := connect(t, s)
	ctx := t.Context()
	session, err := db.Attach(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s.Kind == Embedded {
		if _, err := surrealdb.Query[any](ctx, session, "INFO FOR ROOT", nil); err == nil {
			t.Error("a new session has rights before signing in")
		}
	}
	if _, err := session.SignIn(ctx, map[string]any{"user": s.User, "pass": s.Password}); err != nil {
		t.Fatal(err)
	}
	if _, err := surrealdb.Query[any](ctx, session, "INFO FOR ROOT", nil); err != nil {
		t.Error(err)
	}
	if s.Kind == Embedded {
		if err := steal(ctx, t, s, session.ID()); err == nil {
			t.Error("another socket's session was used")
		}
	}
	if err := session.Detach(ctx); err != nil {
		t.Error(err)
	}
}

// steal asks on a socket of its own, in another socket's session.
func steal(ctx context.Context, t *testing.T, s *Server, session *models.UUID) error {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	conn := gorillaws.New(connection.NewConfig(u))
	if err := conn.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var reply connection.RPCResponse[any]
	return connection.Call(conn, ctx, &reply, &connection.RPCRequest{Method: "query", Params: []any{"INFO FOR ROOT", map[string]any{}}, Session: session})
}

func TestRestart(t *testing.T) {
	s := start(t, Options{})
	if s.Kind == ByURL {
		t.Skip("the server by URL is not ours to stop")
	}
	ctx := t.Context()
	for name, end := range map[string]func() error{"stopped": s.Stop, "killed": s.Kill} {
		db, err := s.Connect(ctx, "nexus_test", "restart")
		if err != nil {
			t.Fatal(err)
		}
		query(t, db, "CREATE person SET name='"+name+"', age=3")
		if err := end(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.Restart(ctx); err != nil {
			t.Fatalf("restart after being %s: %v", name, err)
		}
		again, err := s.Connect(ctx, "nexus_test", "restart")
		if err != nil {
			t.Fatalf("after being %s: %v", name, err)
		}
		if got := people(t, again); got[name] != 3 {
			t.Errorf("after being %s: %v", name, got)
		}
		_ = again.Close(ctx)
	}
}

// TestStops starts and stops again and again: a stop that aborts now and then
// would show here.
func TestStops(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		s, err := Start(t.Context(), Options{Dir: dir})
		if errors.Is(err, ErrNone) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if s.Kind == ByURL {
			t.Skip("the server by URL is not ours to stop")
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Setenv(URLVariable, "http://127.0.0.1:1")
	if _, err := Start(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), "ws://") {
		t.Errorf("an URL of another kind: %v", err)
	}
	t.Setenv(URLVariable, "ws://127.0.0.1:1/rpc")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := Start(ctx, Options{}); err == nil {
		t.Error("a server that isn't there was started")
	}
	t.Setenv(URLVariable, "")
	t.Setenv("PATH", "/nonexistent")
	if _, err := Start(ctx, Options{}); !errors.Is(err, ErrNone) {
		t.Errorf("nothing to start: %v", err)
	}
	for name, ok := range map[string]bool{"a": true, "a1_B": true, "": false, "1a": false, "a b": false, "a;b": false, "ä": false, strings.Repeat("a", 64): false} {
		if isName(name) != ok {
			t.Errorf("isName(%q) is %v", name, !ok)
		}
	}
	if os.Getenv("PATH") != "/nonexistent" {
		t.Error("the environment came back too early")
	}
}

func queryErr(t testing.TB, db *surrealdb.DB, text string) (*[]surrealdb.QueryResult[any], error) {
	t.Helper()
	return surrealdb.Query[any](t.Context(), db, text, nil)
}
