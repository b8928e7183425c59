//! Inputs for which the model has a value of its own.

use serde_json::{Value, json};

use crate::wrapper::{Wrapper, send};

fn tensor(name: &str, shape: &[usize], data: &Value) -> Value {
    json!({"name": name, "datatype": "FP32", "shape": shape, "data": data})
}

#[tokio::test]
async fn they_may_be_given_are_checked_and_stand_apart_in_the_metadata() {
    let wrapper = Wrapper::serving("overridable.onnx", &[]);
    let metadata = wrapper.get(wrapper.traffic, "/v2/models/overridable").await.body;
    assert_eq!(metadata["inputs"], json!([{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]));
    let optional = [("factor", [1]), ("offset", [3])];
    let optional = optional.map(|(name, shape)| json!({"name": name, "datatype": "FP32", "shape": shape}));
    assert_eq!(metadata["optional_inputs"], json!(optional));

    let x = tensor("x", &[1, 3], &json!([1, 2, 3]));
    for (inputs, expected) in [
        (vec![x.clone()], json!([2.0, 4.0, 7.0])),
        (vec![x.clone(), tensor("factor", &[1], &json!([10]))], json!([10.0, 20.0, 31.0])),
        (vec![tensor("offset", &[3], &json!([1, 1, 1])), x.clone()], json!([3.0, 5.0, 7.0])),
    ] {
        let answer = wrapper.infer("overridable", &json!({"inputs": inputs}), &[]).await;
        assert_eq!((answer.status.as_u16(), &answer.body["outputs"][0]["data"]), (200, &expected), "{}", answer.body);
    }
    for (inputs, words) in [
        (vec![x.clone(), tensor("factor", &[2], &json!([1, 2]))], "input 'factor': expected shape [1]"),
        (vec![tensor("factor", &[1], &json!([1]))], "missing input 'x'"),
        (
            vec![x.clone(), tensor("other", &[1], &json!([1]))],
            "and optionally 'factor' (FP32 [1]), 'offset' (FP32 [3])",
        ),
    ] {
        let answer = wrapper.infer("overridable", &json!({"inputs": inputs}), &[]).await;
        assert_eq!(answer.status, 400);
        assert!(answer.body["error"].as_str().unwrap().contains(words), "{}", answer.body);
    }

    let v1 = async |body: Value| {
        send(wrapper.traffic, "POST", "/v1/models/overridable:predict", &[], body.to_string()).await.unwrap()
    };
    let columns = v1(json!({"inputs": {"x": [[1, 2, 3]], "factor": [3]}})).await;
    assert_eq!(columns.body["predictions"], json!([[3.0, 6.0, 10.0]]), "{}", columns.body);
    let rows = v1(json!({"instances": [[1, 2, 3]]})).await;
    assert_eq!(rows.body["predictions"], json!([[2.0, 4.0, 7.0]]), "{}", rows.body);
    for (body, words) in [
        (
            json!({"inputs": {"x": [[1, 2, 3]], "other": [3]}}),
            "and optionally 'factor' (FP32 [1]), 'offset' (FP32 [3])",
        ),
        (json!({"instances": [{"x": [1, 2, 3], "factor": 3}]}), "the inputs 'x' (optional ones go with \"inputs\")"),
    ] {
        let refused = v1(body).await;
        assert!(refused.body["error"].as_str().unwrap().contains(words), "{}", refused.body);
    }
}
