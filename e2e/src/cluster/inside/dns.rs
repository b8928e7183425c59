//! The cluster's DNS: created, and waited for.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use kube::api::{DynamicObject, Patch, PatchParams};
use tokio::net::UdpSocket;

use super::super::addresses::{DNS_SERVICE, DOMAIN};
use super::super::node::dns_objects;
use crate::dynamic;

/// An answer that takes longer is lost: the question was, while kube-proxy had no rule for it.
const ANSWER_DEADLINE: Duration = Duration::from_millis(500);

/// Longest answer over UDP without extensions.
const LONGEST_ANSWER: usize = 512;

/// Creates CoreDNS from `image`, or brings it to what it should be.
pub(super) async fn create(client: &kube::Client, image: &str) -> anyhow::Result<()> {
    for value in dns_objects(image) {
        let object: DynamicObject = serde_json::from_value(value).expect("the objects are Kubernetes objects");
        let types = object.types.as_ref().expect("they have a kind");
        let name = object.metadata.name.clone().expect("they have a name");
        let api = dynamic::api(client, types, object.metadata.namespace.as_deref());
        let apply = PatchParams::apply("cluster").force();
        api.patch(&name, &apply, &Patch::Apply(&object)).await.with_context(|| format!("{} {name}", types.kind))?;
    }
    Ok(())
}

/// Whether the API server's name is resolved, through the Service that every pod asks; else why not.
pub(super) async fn resolves() -> Result<(), String> {
    let server = SocketAddr::from((DNS_SERVICE, 53));
    let name = format!("kubernetes.default.svc.{DOMAIN}");
    let asked = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(server).await?;
        socket.send(&query(&name)).await?;
        let mut answer = [0; LONGEST_ANSWER];
        let length = socket.recv(&mut answer).await?;
        Ok::<_, std::io::Error>(answer[..length].to_vec())
    };
    match tokio::time::timeout(ANSWER_DEADLINE, asked).await {
        Ok(Ok(answer)) => read(&answer).map_err(|reason| format!("{server} says about {name}: {reason}")),
        Ok(Err(error)) => Err(format!("{server} cannot be asked: {error}")),
        Err(_) => Err(format!("{server} does not answer")),
    }
}

/// A question for the addresses of a name (RFC 1035, section 4).
fn query(name: &str) -> Vec<u8> {
    // An identifier, recursion desired, one question.
    let mut packet = vec![0x4b, 0x46, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).expect("a label has at most 63 bytes"));
        packet.extend(label.as_bytes());
    }
    // The root, type A, class IN.
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// Whether an answer has any address.
fn read(answer: &[u8]) -> Result<(), String> {
    match answer {
        [_, _, _, flags, _, _, high, low, ..] if flags & 0xf == 0 && (*high, *low) != (0, 0) => Ok(()),
        [_, _, _, flags, ..] if flags & 0xf != 0 => Err(format!("code {}", flags & 0xf)),
        _ => Err("no address".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_the_form_of_the_standard() {
        let question = query("a.bc");
        assert_eq!(question[2..], *b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x01\x00\x01");
    }

    #[test]
    fn only_an_address_is_an_answer() {
        read(b"KF\x81\x80\x00\x01\x00\x02\x00\x00").unwrap();
        assert_eq!(read(b"KF\x81\x83\x00\x01\x00\x00").unwrap_err(), "code 3");
        assert_eq!(read(b"KF\x81\x80\x00\x01\x00\x00").unwrap_err(), "no address");
        assert_eq!(read(b"KF").unwrap_err(), "no address");
    }
}
