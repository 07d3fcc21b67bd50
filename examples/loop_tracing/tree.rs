//! The spans that arrived, as a tree.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use anyhow::ensure;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

type Attributes = BTreeMap<String, Value>;

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) failed: bool,
    pub(crate) attributes: Attributes,
    /// Attributes of what happened in it.
    pub(crate) events: Vec<Attributes>,
    /// In the order of their start.
    pub(crate) children: Vec<Node>,
}

pub(crate) struct Tree {
    root: Node,
    spans: usize,
}

impl Tree {
    /// # Errors
    ///
    /// If it is not one tree: several traces or roots, a span twice, one whose parent did not come.
    pub(crate) fn grow(requests: &[ExportTraceServiceRequest]) -> anyhow::Result<Self> {
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        let mut spans: Vec<&Span> = scopes.flat_map(|scope| &scope.spans).collect();
        spans.sort_by_key(|span| span.start_time_unix_nano);
        let mut below: HashMap<&[u8], Vec<&Span>> = HashMap::new();
        for span in &spans {
            below.entry(&span.parent_span_id).or_default().push(span);
        }
        let roots = below.remove(&[][..]).unwrap_or_default();
        ensure!(roots.len() == 1, "{} spans have no parent", roots.len());
        let trace = &roots[0].trace_id;
        let strays = spans.iter().filter(|span| span.trace_id != *trace).count();
        ensure!(strays == 0, "{strays} spans are of another trace");
        let root = Node::grow(roots[0], &mut below);
        let orphans: Vec<_> = below
            .into_values()
            .flatten()
            .map(|span| &span.name)
            .collect();
        ensure!(
            orphans.is_empty(),
            "the parents of these did not come: {orphans:?}"
        );
        let spans = spans.len();
        ensure!(root.count() == spans, "a span came twice");
        Ok(Self { root, spans })
    }

    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    pub(crate) fn len(&self) -> usize {
        self.spans
    }
}

impl Node {
    /// Takes what hangs below it out of `below`.
    fn grow(span: &Span, below: &mut HashMap<&[u8], Vec<&Span>>) -> Self {
        let children = below.remove(&span.span_id[..]).unwrap_or_default();
        let children = children.into_iter().map(|child| Self::grow(child, below));
        let events = span
            .events
            .iter()
            .map(|event| attributes(&event.attributes));
        let status = span.status.as_ref().map(|status| status.code());
        Self {
            name: span.name.clone(),
            failed: status == Some(StatusCode::Error),
            attributes: attributes(&span.attributes),
            events: events.collect(),
            children: children.collect(),
        }
    }

    fn count(&self) -> usize {
        1 + self.children.iter().map(Self::count).sum::<usize>()
    }

    pub(crate) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.children.iter().filter(move |child| child.name == name)
    }

    fn draw(&self, f: &mut fmt::Formatter<'_>, indent: &str, on: Option<&Value>) -> fmt::Result {
        self.label(f, on)?;
        for (n, child) in self.children.iter().enumerate() {
            let last = n + 1 == self.children.len();
            let (branch, trunk) = if last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            write!(f, "{indent}{branch}")?;
            child.draw(
                f,
                &format!("{indent}{trunk}"),
                self.attributes.get("thread.id"),
            )?;
        }
        Ok(())
    }

    /// Attributes of our own, `loop.` left out for the eye; and the thread, if it is another than
    /// the parent's.
    fn label(&self, f: &mut fmt::Formatter<'_>, on: Option<&Value>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        for (name, value) in &self.attributes {
            if !matches!(&**name, "level" | "target" | "thread.id" | "thread.name") {
                write!(f, " {}={}", name.trim_start_matches("loop."), Plain(value))?;
            }
        }
        let thread = self.attributes.get("thread.name");
        if let Some(thread) = thread.filter(|_| self.attributes.get("thread.id") != on) {
            write!(f, ", on thread {}", Plain(thread))?;
        }
        if self.failed {
            write!(f, ", failed")?;
        }
        for event in &self.events {
            write!(f, ", late in pass ")?;
            let pass = event.get("loop.iteration");
            pass.map_or(Ok(()), |pass| write!(f, "{}", Plain(pass)))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.draw(f, "", None)
    }
}

/// A value, without the names of its type.
struct Plain<'a>(&'a Value);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::StringValue(text) => f.write_str(text),
            Value::BoolValue(yes) => write!(f, "{yes}"),
            Value::IntValue(number) => write!(f, "{number}"),
            Value::DoubleValue(number) => write!(f, "{number:.1}"),
            other => write!(f, "{other:?}"),
        }
    }
}

fn attributes(list: &[KeyValue]) -> Attributes {
    let pairs = list.iter().filter_map(|pair| {
        let value = pair.value.clone()?.value?;
        Some((pair.key.clone(), value))
    });
    pairs.collect()
}
