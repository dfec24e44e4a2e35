//! Answers in the format of the API.

use axum::{
    body::Body,
    http::{Response, StatusCode, header::CONTENT_TYPE},
};
use serde_json::{Value, json};

pub type Answer = Response<Body>;

pub fn ok(value: &Value) -> Answer {
    with_status(200, value)
}

pub fn with_status(code: u16, value: &Value) -> Answer {
    let status = StatusCode::from_u16(code).unwrap();
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(value.to_string()))
        .unwrap()
}

pub fn refused(code: u16, reason: &str, message: &str) -> Answer {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    with_status(code, &status)
}

pub fn not_found(plural: &str, name: &str) -> Answer {
    refused(404, "NotFound", &format!("{plural} \"{name}\" not found"))
}
