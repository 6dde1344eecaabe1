//! The graph of the tiny causal language model of [`causal`](super::causal).

use super::causal::{Export, HEAD, HEADS, POSITIONS, WIDTH, WORDS, Weights, id, lora, numbers};
use super::{BOOL, FLOAT, FLOAT16, Graph, INT32, INT64, turn};

/// Returns what a token adds to the logits of the next one: the words of a verdict follow `Answer:`, and codes follow it.
fn next_words() -> Vec<f32> {
    let mut table = vec![0.0; WORDS.len() * WORDS.len()];
    let pairs = [("Answer:", "unsafe", 14.0), ("Answer:", "safe", 20.0), ("unsafe", "⏎", 40.0)];
    let answer =
        [("safe", "<end>", 40.0), ("⏎", "Codes:", 40.0), ("Codes:", "S1", 40.0), ("S1", "<end>", 40.0)];
    for (word, next, logit) in pairs.into_iter().chain(answer) {
        table[id(word) * WORDS.len() + id(next)] = logit;
    }
    table
}

/// Returns a table with a number for one word and zero for the others.
fn of_word<T: Clone + Default>(word: &str, value: T) -> Vec<T> {
    let mut table = vec![T::default(); WORDS.len()];
    table[id(word)] = value;
    table
}

/// Adds inputs, and `state` \[rows, tokens, width\] from words and positions.
fn embed(graph: Graph, export: &Export) -> Graph {
    let words = WORDS.len() as i64;
    let mut embedding = numbers(1, WORDS.len() * WIDTH, 1.0);
    embedding[id("nan") * WIDTH] = f32::NAN;
    let graph = graph
        .input("input_ids", INT64, &[-1, -2])
        .input("attention_mask", INT64, &[-1, -3])
        .floats("embedding", &[words, WIDTH as i64], &embedding)
        .floats("places", &[POSITIONS as i64, WIDTH as i64], &numbers(2, POSITIONS * WIDTH, 0.3))
        .node("Gather", &["embedding", "input_ids"], "words")
        // A run fails on an index that does not exist.
        .ints("far", &[words], &of_word("poison", 9_999))
        .node("Gather", &["far", "input_ids"], "index");
    let graph = if export.counts_positions {
        graph
            .node_with("Shape", &["attention_mask"], "mask_shape", &[("start", 1)])
            .node_with("Shape", &["input_ids"], "ids_shape", &[("start", 1)])
            .ints("first", &[1], &[0])
            .node("Sub", &["mask_shape", "ids_shape"], "before")
            .ints("one_step", &[], &[1])
            .node("Squeeze", &["mask_shape", "first"], "position_end")
            .node("Squeeze", &["before", "first"], "position_start")
            .node("Range", &["position_start", "position_end", "one_step"], "positions_1")
            .node("Unsqueeze", &["positions_1", "first"], "positions")
    } else {
        graph.input("position_ids", INT64, &[-1, -2]).node("Identity", &["position_ids"], "positions")
    };
    graph
        .node("Add", &["positions", "index"], "existing")
        .node("Gather", &["places", "existing"], "place")
        .node("Add", &["words", "place"], "state")
}

/// Adds `query`, `new_key` and `new_value`, each \[rows, tokens, width\].
fn project(graph: Graph, export: &Export) -> Graph {
    let matrix = |graph: Graph, name: &str, seed: u64, output: &str| {
        let weights = numbers(seed, WIDTH * WIDTH, 1.0);
        match export.weights {
            Weights::Float => product(graph, name, &weights, output),
            Weights::Rounded => {
                let levels = weights.iter().map(|weight| (f32::from(level(*weight)) - 8.0) * STEP);
                product(graph, name, &levels.collect::<Vec<_>>(), output)
            }
            Weights::FourBits => packed_product(graph, name, &weights, output),
        }
    };
    let graph = matrix(graph, "w_query", 3, "query");
    let graph = matrix(graph, "w_key", 4, "new_key");
    matrix(graph, "w_value", 7, "new_value")
}

/// The distance of two weights of four bits.
const STEP: f32 = 0.125;

/// Returns the level of a weight, from 0 to 15; 8 is zero.
fn level(weight: f32) -> u8 {
    (weight / STEP + 8.0).round().clamp(0.0, 15.0) as u8
}

/// Adds the product of `state` and a square matrix in float32.
fn product(graph: Graph, name: &str, weights: &[f32], output: &str) -> Graph {
    let square = [WIDTH as i64, WIDTH as i64];
    graph.floats(name, &square, weights).node("MatMul", &["state", name], output)
}

/// Adds the product of `state` and a square matrix of four bits a weight: one block for each column, two levels in a byte.
fn packed_product(graph: Graph, name: &str, weights: &[f32], output: &str) -> Graph {
    let (width, scales) = (WIDTH as i64, format!("{name}_scales"));
    let column = |at: usize| (0..WIDTH).map(move |row| level(weights[row * WIDTH + at])).collect::<Vec<_>>();
    let packed: Vec<u8> = (0..WIDTH)
        .flat_map(|at| column(at).chunks(2).map(|two| two[0] | two[1] << 4).collect::<Vec<_>>())
        .collect();
    graph
        .unsigned_bytes(name, &[width, 1, width / 2], &packed)
        .floats(&scales, &[width], &[STEP; WIDTH])
        .contrib_node(
            "MatMulNBits",
            &["state", name, &scales],
            &[output],
            &[("K", WIDTH as u64), ("N", WIDTH as u64), ("bits", 4), ("block_size", WIDTH as u64)],
        )
}

/// Adds inputs and outputs for the past. `past_key` and `past_value` are float32.
fn past(graph: Graph, export: &Export) -> Graph {
    let (kind, rows) = (if export.half { FLOAT16 } else { FLOAT }, if export.shares { 1 } else { -1 });
    let mut graph = graph;
    for name in ["key", "value"] {
        let (input, inner) = (format!("past_key_values.0.{name}"), format!("past_{name}"));
        graph = graph
            .input(&input, kind, &[rows, HEADS, -4, HEAD])
            .node_with("Cast", &[&input], &inner, &[("to", FLOAT)])
            .output(&format!("present.0.{name}"), kind, &[-1, HEADS, -5, HEAD]);
    }
    graph
}

/// Adds a present of the graph's type from `name` in float32.
fn present(graph: Graph, export: &Export, name: &str, inner: &str) -> Graph {
    let kind = if export.half { FLOAT16 } else { FLOAT };
    graph.node_with("Cast", &[inner], &format!("present.0.{name}"), &[("to", kind)])
}

/// Adds `mixed` \[rows, tokens, width\] by plain operators.
fn plain_attention(graph: Graph, export: &Export) -> Graph {
    let mut graph =
        graph.ints("heads", &[4], &[0, 0, HEADS, HEAD]).ints("whole", &[3], &[0, 0, WIDTH as i64]);
    for (from, to) in [("query", "q"), ("new_key", "k_new"), ("new_value", "v_new")] {
        let split = format!("{to}_split");
        graph = graph.node("Reshape", &[from, "heads"], &split);
        graph = graph.node_list("Transpose", &[&split], to, ("perm", &[0, 2, 1, 3]));
    }
    for (name, new, all) in [("key", "k_new", "k"), ("value", "v_new", "v")] {
        if !export.past {
            graph = graph.node("Identity", &[new], all);
            continue;
        }
        let (inner, wide) = (format!("past_{name}"), format!("past_{name}_rows"));
        graph = if export.shares {
            let (rows, shape) = (format!("{name}_rows"), format!("{name}_shape"));
            graph
                .node_with("Shape", &["input_ids"], &rows, &[("start", 0), ("end", 1)])
                .ints(&format!("{name}_ones"), &[3], &[1, 1, 1])
                .node_with("Concat", &[&rows, &format!("{name}_ones")], &shape, &[("axis", 0)])
                .node("Expand", &[&inner, &shape], &wide)
        } else {
            graph.node("Identity", &[&inner], &wide)
        };
        graph = graph.node_with("Concat", &[&wide, new], all, &[("axis", 2)]);
        graph = present(graph, export, name, all);
    }
    graph
        .node_list("Transpose", &["k"], "k_turned", ("perm", &[0, 1, 3, 2]))
        .node("MatMul", &["q", "k_turned"], "raw_scores")
        .floats("half", &[], &[0.353_553_4])
        .node("Mul", &["raw_scores", "half"], "scores")
        .ints("zero", &[], &[0])
        .ints("one", &[], &[1])
        .ints("axis_0", &[1], &[0])
        .ints("axis_1", &[1], &[1])
        .ints("axes_1_2", &[2], &[1, 2])
        .node_with("Shape", &["attention_mask"], "t_1", &[("start", 1)])
        .node_with("Shape", &["input_ids"], "s_1", &[("start", 1)])
        .node("Squeeze", &["t_1", "axis_0"], "t")
        .node("Squeeze", &["s_1", "axis_0"], "s")
        .node("Sub", &["t", "s"], "p")
        .node("Range", &["zero", "t", "one"], "columns")
        .node("Range", &["p", "t", "one"], "rows")
        .node("Unsqueeze", &["rows", "axis_1"], "rows_down")
        .node("Greater", &["columns", "rows_down"], "later")
        .node_with("Cast", &["later"], "later_float", &[("to", FLOAT)])
        .node_with("Cast", &["attention_mask"], "mask_float", &[("to", FLOAT)])
        .floats("float_one", &[], &[1.0])
        .floats("hidden", &[], &[-1e9])
        .node("Sub", &["float_one", "mask_float"], "padding")
        .node("Unsqueeze", &["padding", "axes_1_2"], "padding_4")
        .node("Max", &["padding_4", "later_float"], "unseen")
        .node("Mul", &["unseen", "hidden"], "bias")
        .node("Add", &["scores", "bias"], "seen")
        .node_with("Softmax", &["seen"], "shares", &[("axis", 3)])
        .node("MatMul", &["shares", "v"], "mixed_heads")
        .node_list("Transpose", &["mixed_heads"], "mixed_turned", ("perm", &[0, 2, 1, 3]))
        .node("Reshape", &["mixed_turned", "whole"], "mixed")
}

/// Adds `mixed` by the fused operator of exporters.
fn fused_attention(graph: Graph) -> Graph {
    graph
        .ints("down", &[1], &[1])
        .ints("nothing", &[1], &[0])
        .node_with("ReduceSum", &["attention_mask", "down"], "real", &[("keepdims", 0)])
        .ints("last", &[], &[1])
        .node("Sub", &["real", "last"], "length")
        .node_with("Cast", &["length"], "length_32", &[("to", INT32)])
        .node_with("Shape", &["attention_mask"], "total_1", &[("start", 1)])
        .node("Squeeze", &["total_1", "nothing"], "total")
        .node_with("Cast", &["total"], "total_32", &[("to", INT32)])
        .contrib_node(
            "GroupQueryAttention",
            &["query", "new_key", "new_value", "past_key", "past_value", "length_32", "total_32"],
            &["mixed", "present.0.key", "present.0.value"],
            &[("num_heads", HEADS as u64), ("kv_num_heads", HEADS as u64)],
        )
}

/// Adds a number `looped` with the value 0. A text with `hang` makes its computation endless, or long in one node.
fn hang(graph: Graph, export: &Export) -> Graph {
    if !export.stuck {
        return graph.truth("true").floats("start", &[], &[0.0]).looping(
            &["most", "true", "start"],
            "looped",
            turn(),
        );
    }
    graph
        .ints("at_least", &[], &[1])
        .node("Max", &["most", "at_least"], "side")
        .ints("side_axis", &[1], &[0])
        .node("Unsqueeze", &["side", "side_axis"], "side_1")
        .node_with("Concat", &["side_1", "side_1"], "square_shape", &[("axis", 0)])
        .ints("no", &[1, 1], &[0])
        .node("Expand", &["no", "square_shape"], "square")
        .node("MatMul", &["square", "square"], "product")
        .node_with("ReduceMax", &["product"], "greatest", &[("keepdims", 0)])
        .node_with("Cast", &["greatest"], "looped", &[("to", FLOAT)])
}

/// Adds the output from `mixed`, with the faults that words select.
fn answer(graph: Graph, export: &Export) -> Graph {
    let words = WORDS.len() as i64;
    let width = WIDTH as i64;
    let mut graph = graph.node("Add", &["state", "mixed"], "deep");
    graph = match export.adapter {
        Some(seed) => {
            lora(seed).iter().fold(graph, |graph, (name, shape, numbers)| graph.floats(name, shape, numbers))
        }
        None => graph
            .input("lora.a", FLOAT, &[width, -6])
            .input("lora.b", FLOAT, &[-6, width])
            .floats("lora.a", &[width, 0], &[])
            .floats("lora.b", &[0, width], &[]),
    };
    graph = graph
        .node("MatMul", &["deep", "lora.a"], "low")
        .node("MatMul", &["low", "lora.b"], "delta")
        .node("Add", &["deep", "delta"], "adapted")
        .floats("w_words", &[width, words], &numbers(6, WIDTH * WORDS.len(), 1.0))
        .node("MatMul", &["adapted", "w_words"], "free")
        .floats("next", &[words, words], &next_words())
        .node("Gather", &["next", "input_ids"], "bound")
        .node("Add", &["free", "bound"], "said")
        // A text with `off` makes the model say something else.
        .floats("offs", &[words], &of_word("off", 60.0))
        .node("Gather", &["offs", "input_ids"], "off")
        .ints("along", &[1], &[1])
        .node_with("ReduceMax", &["off", "along"], "off_rows", &[("keepdims", 1)])
        .ints("end", &[1], &[2])
        .node("Unsqueeze", &["off_rows", "end"], "off_3")
        .floats("other", &[words], &of_word("day", 1.0))
        .node("Mul", &["off_3", "other"], "elsewhere")
        .node("Add", &["said", "elsewhere"], "with_faults")
        .ints("turns", &[words], &of_word("hang", if export.stuck { 3_000 } else { i64::MAX }))
        .node("Gather", &["turns", "input_ids"], "turn")
        .node_with("ReduceMax", &["turn"], "most", &[("keepdims", 0)]);
    graph = hang(graph, export).node("Add", &["with_faults", "looped"], "all_logits");
    graph = if export.last_only {
        graph.ints("from", &[1], &[-1]).ints("to", &[1], &[i64::MAX]).node(
            "Slice",
            &["all_logits", "from", "to", "along"],
            "wanted",
        )
    } else {
        graph.node("Identity", &["all_logits"], "wanted")
    };
    let kind = if export.half { FLOAT16 } else { FLOAT };
    let columns = if export.last_only { 1 } else { -2 };
    graph.node_with("Cast", &["wanted"], "logits", &[("to", kind)]).output(
        "logits",
        kind,
        &[-1, columns, words],
    )
}

/// Returns the graph of an export.
pub fn causal(export: &Export) -> Vec<u8> {
    let mut graph = embed(Graph::default(), export);
    if export.merged {
        graph = graph.input("use_cache_branch", BOOL, &[1]).node("Identity", &["use_cache_branch"], "branch");
    }
    graph = project(graph, export);
    if export.past {
        graph = past(graph, export);
    }
    graph = if export.fused { fused_attention(graph) } else { plain_attention(graph, export) };
    answer(graph, export).model()
}
