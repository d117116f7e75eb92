//! A browser without a screen: follows redirects, keeps cookies, and fills in
//! the forms of the authorization servers that the tests run.

use std::collections::HashMap;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{Method, Request, Response};
use regex::Regex;
use scistream::http::HttpClient;
use url::Url;
use url::form_urlencoded::Serializer;

/// More steps than any login has.
const STEPS: usize = 30;

/// What the person before it does when asked to log in and to consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Person {
    Consents,
    Denies,
}

/// Where a journey ended.
#[derive(Debug)]
pub struct Page {
    pub url: Url,
    pub status: u16,
    pub text: String,
}

/// One person's browser.
#[derive(Debug)]
pub struct Browser {
    http: HttpClient,
    name: String,
    person: Person,
    // Who has said no fills in no more forms.
    said_no: bool,
    cookies: HashMap<(String, String), String>,
}

impl Browser {
    /// The browser of somebody who logs in under this name.
    pub fn of(name: &str, person: Person) -> Self {
        let http = HttpClient::new(None).expect("TLS");
        Self { http, name: name.into(), person, said_no: false, cookies: HashMap::new() }
    }

    /// Goes where the pages lead, to the first that leads nowhere.
    pub async fn visit(&mut self, address: &str) -> Page {
        self.journey(address, |_| false).await
    }

    /// The same, but does not go to an address that begins like this: answers with that address.
    pub async fn visit_until(&mut self, address: &str, prefix: &str) -> Url {
        self.journey(address, |url| url.as_str().starts_with(prefix)).await.url
    }

    async fn journey(&mut self, address: &str, stop: impl Fn(&Url) -> bool) -> Page {
        let mut url = Url::parse(address).unwrap_or_else(|e| panic!("{e}: {address:?}"));
        let mut form: Option<String> = None;
        for _ in 0..STEPS {
            if stop(&url) {
                return Page { url, status: 0, text: String::new() };
            }
            let answer = self.step(&url, form.take()).await;
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            if answer.status().is_redirection() {
                let next = answer.headers().get(LOCATION).expect("a redirect has an address").to_str().expect("text");
                url = url.join(next).expect("an address");
            } else if let Some((action, fields)) = self.filled(&text) {
                url = url.join(&action).expect("an address");
                form = Some(fields);
            } else {
                return Page { url, status: answer.status().as_u16(), text };
            }
        }
        panic!("{address} leads nowhere; last to {url}");
    }

    async fn step(&mut self, url: &Url, form: Option<String>) -> Response<Bytes> {
        let authority = url.authority().to_owned();
        let mine = self.cookies.iter().filter(|((host, _), _)| *host == authority);
        let cookies: Vec<_> = mine.map(|((_, name), value)| format!("{name}={value}")).collect();
        let mut request = Request::builder().uri(url.as_str()).header(COOKIE, cookies.join("; "));
        if form.is_some() {
            request = request.method(Method::POST).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = request.body(Bytes::from(form.unwrap_or_default())).expect("a request");
        let answer = self.http.call(request).await.unwrap_or_else(|e| panic!("{url}: {e}"));
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().expect("text").split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').expect("a cookie");
            self.cookies.insert((authority.clone(), name.into()), value.into());
        }
        answer
    }

    /// Where the page's form goes, and what this person writes into it.
    fn filled(&mut self, page: &str) -> Option<(String, String)> {
        if self.said_no {
            return None;
        }
        let capture = |pattern: &str, text: &str| {
            let found = Regex::new(pattern).expect("a pattern").captures(text)?;
            Some(found.get(1).expect("one group").as_str().replace("&amp;", "&"))
        };
        let action = capture(r#"<form[^>]* action="([^"]*)""#, page)?;
        let mut fields = Serializer::new(String::new());
        for input in Regex::new("<input[^>]*>").expect("a pattern").find_iter(page) {
            let Some(name) = capture(r#"name="([^"]*)""#, input.as_str()) else { continue };
            let value = capture(r#"value="([^"]*)""#, input.as_str()).unwrap_or_default();
            fields.append_pair(&name, if name == "login" { &self.name } else { &value });
        }
        if self.person == Person::Denies
            && let Some(button) = capture(r#"<button[^>]* name="(deny|abort)""#, page)
        {
            fields.append_pair(&button, "yes");
            self.said_no = true;
        }
        Some((action, fields.finish()))
    }
}
