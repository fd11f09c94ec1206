//! Whatever is sent comes back from a server of another make.

use super::tests::{called, echo, link, plain, serve, story};
use bytes::Bytes;
use h2::server::Builder;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use std::rc::Rc;
use tokio::task::spawn_local;

fn headers() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![Just("x-a".to_owned()), Just("x-b".to_owned()), Just("grpc-timeout".to_owned()), "[a-z][a-z0-9-]{0,20}-bin"];
    let value = prop_oneof![Just(String::new()), "[ -~]{1,80}", "[a-c]{1,2}", "[ -~]{2000,6000}"];
    vec((name, value), 0..8).prop_map(|list| {
        let fields = list
            .into_iter()
            .map(|(name, value)| (HeaderName::try_from(name).expect("a name"), HeaderValue::try_from(value.trim()).expect("a value")));
        fields.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Blocks of both sides in both directions, over frames that come in pieces of any size.
    #[test]
    fn any_headers_come_back(lists in vec(headers(), 1..12), again in 1usize..4, pipe in 1usize..3000, table in prop::option::of(0u32..5000)) {
        story(async {
            let (link, there) = link(pipe);
            let mut builder = Builder::new();
            builder.max_header_list_size(1 << 20);
            if let Some(table) = table {
                builder.header_table_size(table);
            }
            serve(builder, there, echo);
            for _ in 0..again {
                for list in &lists {
                    let (head, _, trailers) = called(&link, list, &[]).await.expect("an answer");
                    assert_eq!(head.headers(), list);
                    assert_eq!(trailers.unwrap_or_default(), *list);
                }
            }
        });
    }

    /// Bodies of both directions, through windows that are smaller.
    #[test]
    fn any_bodies_come_back(
        calls in vec(vec(0usize..100_000, 0..6), 1..5), window in 1u32..100_000, frame in 16_384u32..40_000, pipe in 100usize..100_000
    ) {
        story(async {
            let (link, there) = link(pipe);
            let mut builder = Builder::new();
            builder.initial_window_size(window).max_frame_size(frame);
            serve(builder, there, echo);
            let running: Vec<_> = calls.iter().enumerate().map(|(number, sizes)| {
                let pieces: Vec<Bytes> = sizes.iter().map(|size| Bytes::from(vec![number as u8; *size])).collect();
                let link = Rc::clone(&link);
                (pieces.concat(), spawn_local(async move { called(&link, &plain(), &pieces).await }))
            }).collect();
            for (all, one) in running {
                let (_, body, trailers) = one.await.expect("it ran").expect("an answer");
                assert!(body == all && trailers == Some(plain()));
            }
        });
    }
}
