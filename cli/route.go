package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/bpf/rocksprobe"
)

// importBytesMax bounds a file of routes.
const importBytesMax = 16 << 20

func newRoute(term *terminal) *cobra.Command {
	dir := rocksprobe.RoutesDir
	cmd := &cobra.Command{
		Use:   "route",
		Short: "Day 20's routing table: which table's changes go to which collection",
		Long: "The table is a map in the kernel, pinned, which the probe asks about every committed change:\n" +
			"it survives the program that made it, and a change of it holds from the next commit on.",
	}
	cmd.PersistentFlags().StringVar(&dir, "dir", dir, "folder in a BPF file system")
	cmd.AddCommand(newRouteList(term, &dir), newRouteSet(term, &dir), newRouteDelete(&dir), newRouteWatch(term, &dir),
		newRouteExport(term, &dir), newRouteImport(term, &dir))
	return cmd
}

// withRoutes opens the table for one command. Where it can't be opened, the
// machine lacks something.
func withRoutes(dir string, use func(*rocksprobe.Routes) error) error {
	routes, err := rocksprobe.OpenRoutes(dir)
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	return errors.Join(use(routes), routes.Close())
}

func newRouteList(term *terminal, dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "The routes in force", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return withRoutes(*dir, func(r *rocksprobe.Routes) error {
				routes, err := r.List()
				if err != nil {
					return err
				}
				if term.json {
					return term.printJSON(routes)
				}
				return printRoutes(term.stdout, routes)
			})
		},
	}
}

func printRoutes(out io.Writer, routes []rocksprobe.Route) error {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "TABLE\tDATABASE\tCOLLECTION\tTHETA\tENDPOINT\tREVISION")
	for _, r := range routes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%g\t%s\t%d\n", r.Table, databaseName(r.Database), r.Collection, r.Theta, r.Endpoint, r.Revision)
	}
	return table.Flush()
}

func databaseName(id *rocksprobe.DatabaseID) string {
	if id == nil {
		return "any"
	}
	return fmt.Sprintf("%d/%d", id.Namespace, id.Database)
}

// parseDatabase reads "1/0", a namespace's and a database's number.
func parseDatabase(text string) (*rocksprobe.DatabaseID, error) {
	if text == "" || text == "any" {
		return nil, nil
	}
	first, second, both := strings.Cut(text, "/")
	namespace, err := strconv.ParseUint(first, 10, 32)
	database, err2 := strconv.ParseUint(second, 10, 32)
	if !both || err != nil || err2 != nil {
		return nil, usagef("--database %q: want NAMESPACE/DATABASE by number, such as 1/0", text)
	}
	return &rocksprobe.DatabaseID{Namespace: uint32(namespace), Database: uint32(database)}, nil
}

func newRouteSet(term *terminal, dir *string) *cobra.Command {
	var route rocksprobe.Route
	var database string
	cmd := &cobra.Command{
		Use: "set TABLE", Short: "Put a route in force, in place of the table's old one", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var err error
			if route.Database, err = parseDatabase(database); err != nil {
				return err
			}
			route.Table = args[0]
			if err := route.Check(); err != nil {
				return usagef("%v", err)
			}
			return withRoutes(*dir, func(r *rocksprobe.Routes) error {
				set, err := r.Set(route)
				if err == nil && term.json {
					err = term.printJSON(set)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&route.Collection, "collection", "", "collection of the vector store")
	cmd.Flags().Float32Var(&route.Theta, "theta", 0.02, "cosine distance from which a change matters")
	cmd.Flags().StringVar(&route.Endpoint, "endpoint", "", "of the embedding model; none: records carry vectors")
	cmd.Flags().StringVar(&database, "database", "any", "only this database, NAMESPACE/DATABASE by the engine's numbers")
	return cmd
}

func newRouteDelete(dir *string) *cobra.Command {
	var database string
	cmd := &cobra.Command{
		Use: "delete TABLE", Short: "Take a table's route out of force: its changes are no longer published", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			id, err := parseDatabase(database)
			if err != nil {
				return err
			}
			return withRoutes(*dir, func(r *rocksprobe.Routes) error {
				err := r.Delete(rocksprobe.Route{Table: args[0], Database: id})
				if errors.Is(err, rocksprobe.ErrNoRoute) {
					return usagef("%v", err)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&database, "database", "any", "the route of this database, NAMESPACE/DATABASE by the engine's numbers")
	return cmd
}

func newRouteWatch(term *terminal, dir *string) *cobra.Command {
	interval := 100 * time.Millisecond
	cmd := &cobra.Command{
		Use: "watch", Short: "Print the routes, and again what changes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < time.Millisecond {
				return usagef("--interval %v: want at least 1ms", interval)
			}
			return withRoutes(*dir, func(r *rocksprobe.Routes) error { return watchRoutes(cmd.Context(), term, r, interval) })
		},
	}
	cmd.Flags().DurationVar(&interval, "interval", interval, "how often to look")
	return cmd
}

// routeChange is one line of route watch.
type routeChange struct {
	Change string           `json:"change"` // set, delete
	Route  rocksprobe.Route `json:"route"`
}

func watchRoutes(ctx context.Context, term *terminal, r *rocksprobe.Routes, interval time.Duration) error {
	var last []rocksprobe.Route
	lines := json.NewEncoder(term.stdout)
	for {
		routes, err := r.List()
		if err != nil {
			return err
		}
		for _, change := range routeChanges(last, routes) {
			if term.json {
				err = lines.Encode(change)
			} else {
				_, err = fmt.Fprintf(term.stdout, "%s %s (database %s) -> %s, theta %g, revision %d\n", change.Change, change.Route.Table,
					databaseName(change.Route.Database), change.Route.Collection, change.Route.Theta, change.Route.Revision)
			}
			if err != nil {
				return fmt.Errorf("write a change of the routes: %w", err)
			}
		}
		last = routes
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}

// routeChanges says what leads from one list to the other.
func routeChanges(before, after []rocksprobe.Route) []routeChange {
	name := func(r rocksprobe.Route) string { return r.Table + "\x00" + databaseName(r.Database) }
	old := map[string]rocksprobe.Route{}
	for _, r := range before {
		old[name(r)] = r
	}
	var changes []routeChange
	for _, r := range after {
		if was, found := old[name(r)]; !found || !reflect.DeepEqual(was, r) {
			changes = append(changes, routeChange{"set", r})
		}
		delete(old, name(r))
	}
	for _, r := range before {
		if _, gone := old[name(r)]; gone {
			changes = append(changes, routeChange{"delete", r})
		}
	}
	return changes
}

func newRouteExport(term *terminal, dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "export", Short: "Print the routes in force as JSON, as import reads them", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return withRoutes(*dir, func(r *rocksprobe.Routes) error {
				routes, err := r.List()
				if err != nil {
					return err
				}
				return term.printJSON(routes)
			})
		},
	}
}

func newRouteImport(term *terminal, dir *string) *cobra.Command {
	replace := false
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Set the routes of a file (- for standard input), all or none if one is wrong", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return usagef("%v", err)
				}
				defer f.Close()
				in = f
			}
			routes, err := readRoutes(in)
			if err != nil {
				return usagef("%s: %v", args[0], err)
			}
			return withRoutes(*dir, func(r *rocksprobe.Routes) error { return importRoutes(r, routes, replace) })
		},
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "delete routes that are not in the file")
	return cmd
}

func readRoutes(in io.Reader) ([]rocksprobe.Route, error) {
	text, err := io.ReadAll(io.LimitReader(in, importBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read the routes: %w", err)
	}
	if len(text) > importBytesMax {
		return nil, fmt.Errorf("more than %d bytes of routes", importBytesMax)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var routes []rocksprobe.Route
	if err := decoder.Decode(&routes); err != nil {
		return nil, fmt.Errorf("decode the routes: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the list of routes")
	}
	seen := map[string]bool{}
	for i, r := range routes {
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("route %d: %w", i+1, err)
		}
		name := r.Table + "\x00" + databaseName(r.Database)
		if seen[name] {
			return nil, fmt.Errorf("route %d: table %s (database %s) is there twice", i+1, r.Table, databaseName(r.Database))
		}
		seen[name] = true
	}
	return routes, nil
}

// importRoutes sets what differs, so that importing twice changes nothing.
func importRoutes(r *rocksprobe.Routes, routes []rocksprobe.Route, replace bool) error {
	before, err := r.List()
	if err != nil {
		return err
	}
	revisions := map[string]uint32{}
	for _, old := range before {
		revisions[old.Table+"\x00"+databaseName(old.Database)] = old.Revision
	}
	wanted := make([]rocksprobe.Route, len(routes))
	for i, route := range routes {
		route.Revision = revisions[route.Table+"\x00"+databaseName(route.Database)]
		wanted[i] = route
	}
	for _, change := range routeChanges(before, wanted) {
		if change.Change == "delete" {
			if replace {
				err = r.Delete(change.Route)
			}
		} else {
			_, err = r.Set(change.Route)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
