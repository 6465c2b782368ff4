//! What a signature costs: to make, to check alone, and to check with others.

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use testudo_core::{Digest, PublicKey, Signature, Signer, Verifier};
use testudo_keys::{Ed25519Verifier, SigningKey, verify};

fn items(count: u8) -> Vec<(PublicKey, Digest, Signature)> {
    (0..count)
        .map(|i| {
            let key = SigningKey::from_secret(&[i; 32]);
            let digest = Digest::of(&[i]);
            (key.public(), digest, key.sign(&digest))
        })
        .collect()
}

fn single(c: &mut Criterion) {
    let key = SigningKey::from_secret(&[1; 32]);
    let digest = Digest::of(b"a statement");
    c.bench_function("sign", |b| b.iter(|| key.sign(black_box(&digest))));

    let (public, signature) = (key.public(), key.sign(&digest));
    let member = Ed25519Verifier::new([public]);
    c.bench_function("verify/member", |b| {
        b.iter(|| assert!(member.check(&public, black_box(&digest), &signature)));
    });
    c.bench_function("verify/plain", |b| {
        let signed = [&b"testudo-sign-1\0"[..], &digest.0].concat();
        b.iter(|| assert!(verify(&public, black_box(&signed), &signature)));
    });
    c.bench_function("prepare a member", |b| b.iter(|| Ed25519Verifier::new([public])));
}

fn batches(c: &mut Criterion) {
    for count in [3, 8, 16, 64] {
        let items = items(count);
        let member = Ed25519Verifier::new(items.iter().map(|item| item.0));
        c.bench_with_input(BenchmarkId::new("batch/members", count), &items, |b, items| {
            b.iter(|| assert!(member.check_all(black_box(items))));
        });
        c.bench_with_input(BenchmarkId::new("batch/strangers", count), &items, |b, items| {
            // A fresh verifier each time, as this one remembers who comes again.
            b.iter_batched(
                || Ed25519Verifier::new([]),
                |verifier| assert!(verifier.check_all(black_box(items))),
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, single, batches);
criterion_main!(benches);
