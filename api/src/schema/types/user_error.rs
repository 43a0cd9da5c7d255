//! Errors that a client is meant to handle, as data.

use std::borrow::Cow;

use async_graphql::{
    ContextSelectionSet, OutputType, Positioned, ServerResult, SimpleObject, Value,
    indexmap::IndexMap,
    parser::types::Field,
    registry::{EnumBuilder, MetaEnumValue, MetaTypeId, Registry},
};
use domain::{ErrorCode, ServiceError, error::Surface};

use crate::schema::error::retry_after_seconds;

/// Why a mutation did not do what it was asked, in a form that a client can act on.
#[derive(SimpleObject)]
pub struct UserError {
    /// What is wrong, in English, for developers. Show people a text of your own that depends on `code`.
    message: String,
    /// What is wrong, for programs.
    code: UserErrorCode,
    /// Where in `input` the wrong value is, from the outside in; null when it is no single value.
    field: Option<Vec<&'static str>>,
    /// How many seconds to wait before the same call can succeed; null unless `code` is `RATE_LIMITED`.
    retry_after_seconds: Option<i32>,
}

impl From<ServiceError> for UserError {
    fn from(error: ServiceError) -> Self {
        Self {
            message: error.message().to_owned(),
            code: UserErrorCode(error.code()),
            field: (!error.field().is_empty()).then(|| error.field().to_vec()),
            retry_after_seconds: retry_after_seconds(&error),
        }
    }
}

/// The codes that a payload may carry. The enum of the schema is made from the domain's table of errors, so that neither
/// can have a code that the other lacks.
pub struct UserErrorCode(ErrorCode);

impl UserErrorCode {
    pub fn all() -> impl Iterator<Item = ErrorCode> {
        let in_payloads = |code: &ErrorCode| code.info().surface != Surface::TopLevel;
        ErrorCode::ALL.iter().copied().filter(in_payloads)
    }
}

impl OutputType for UserErrorCode {
    fn type_name() -> Cow<'static, str> {
        "UserErrorCode".into()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        registry.create_output_type::<Self, _>(MetaTypeId::Enum, |_| {
            let values: IndexMap<_, _> =
                Self::all().map(|code| (code.name().to_owned(), enum_value(code))).collect();
            EnumBuilder::new("UserErrorCode", values)
                .description(Some("What is wrong with a mutation. Later versions may add codes.".to_owned()))
                .build()
        })
    }

    async fn resolve(&self, _: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        Ok(Value::Enum(async_graphql::Name::new(self.0.name())))
    }
}

fn enum_value(code: ErrorCode) -> MetaEnumValue {
    let info = code.info();
    MetaEnumValue {
        description: Some(format!("{} {}", info.cause, info.remedy)),
        ..MetaEnumValue::new(info.name)
    }
}
