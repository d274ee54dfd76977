// Shows the document of the API beside which this page is served. Nothing is asked of anybody else.
SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href,
  dom_id: "#docs",
  deepLinking: true,
  // Whoever wants to know whether the document is valid would send it away otherwise.
  validatorUrl: null,
  // Tokens are typed in anew each time: nothing of them is kept in the browser.
  persistAuthorization: false,
  queryConfigEnabled: false,
});
