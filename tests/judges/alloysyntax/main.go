// Command alloysyntax reads configurations of Grafana Alloy by Alloy's own parser and prints their blocks.
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/grafana/alloy/syntax/ast"
	"github.com/grafana/alloy/syntax/parser"
)

func main() {
	for _, path := range os.Args[1:] {
		text, err := os.ReadFile(path)
		if err != nil {
			log.Fatal(err)
		}
		file, err := parser.ParseFile(path, text)
		if err != nil {
			log.Fatal(err)
		}
		for _, statement := range file.Body {
			if block, ok := statement.(*ast.BlockStmt); ok {
				fmt.Println(block.GetBlockName(), block.Label)
			}
		}
	}
}
